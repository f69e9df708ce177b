"""The formats that keep many images in one file, and a lone file of one of them as a source."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tamis.errors import InputError
from tamis.sources import cifar, idx, parquet, stl10
from tamis.sources.content import Content
from tamis.sources.entries import Entry, EntryError, Format, UnsuitedError
from tamis.sources.names import is_image

FORMATS = (idx.FORMAT, cifar.BINARY, cifar.PYTHON, stl10.FORMAT, parquet.FORMAT)
# What an upload whose name says nothing is called, by how it begins.
_DEFAULT_NAMES = {idx.IMAGES_MAGIC: idx.DEFAULT_NAME, parquet.MAGIC: parquet.DEFAULT_NAME}
# Of an upload's name, which is only a hint: one that would be hidden or refused in an archive is not used.
_PLAIN = re.compile(r"\w[\w. -]*")


def format_of(name: str) -> Format | None:
    """The format of the images in a file of that clean name; None for a file that is one image, or none."""
    return None if is_image(name) else next((each for each in FORMATS if each.holds(name)), None)


def is_companion(name: str) -> bool:
    return any(each.companion(name) for each in FORMATS)


@dataclass(frozen=True)
class LoneFile:
    """A file of many images, and the companions beside it. `plain` is what the file may be called."""

    content: Content
    format: Format
    plain: str
    archived: bool = True
    listed: bool = True

    @property
    def name(self) -> str:
        return self.content.name

    def __iter__(self) -> Iterator[Entry]:
        yield Entry(self.plain, self.content.open, self.content.size, self.content.uri)
        for name in sorted(self.format.companions(self.content.name)):
            entry = self.content.beside(name)
            if entry is not None:
                yield entry

    def find(self, name: str) -> Entry | None:
        return self.content.beside(name)

    def damaged(self, error: EntryError) -> InputError:
        if isinstance(error, UnsuitedError):
            return InputError(f"{self.name} is of no use here: {error}.", "docs/sources.md says what is read.")
        return InputError(
            f"{self.name} is not a whole {self.format.title} file: {error}.",
            "Compare its size with the original and upload it again.",
        )


def lone_file(content: Content, head: bytes, gzipped: bool) -> LoneFile | None:
    """`head`: how the file begins, unzipped if it is gzipped. Raises InputError when its header or size is wrong."""
    default = next((name for magic, name in _DEFAULT_NAMES.items() if head.startswith(magic)), None)
    own = content.name if _PLAIN.fullmatch(content.name) else ""
    found = format_of(own)
    if found is not None and default is not None and not found.holds(default):
        found = None
    plain = own if found else f"{default}{'.gz' * gzipped}" if default else ""
    found = found or format_of(plain)
    if found is None:
        return None
    file = LoneFile(content, found, plain)
    try:
        found.count(next(iter(file)))
    except EntryError as error:
        raise file.damaged(error) from error
    return file
