"""A tar archive, gzipped or not: its members in the order they come in."""

import io
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import BinaryIO, cast

from tamis.errors import InputError
from tamis.sources.content import Content, Window
from tamis.sources.entries import MAX_RATIO, MAX_UNSUSPECTED_BYTES, Entry
from tamis.sources.gunzip import DAMAGE, ExpandsTooMuch, gunzip
from tamis.sources.names import by_clean_name, shown
from tamis.sources.tar_headers import (
    CONTIGUOUS,
    FILE,
    FOLDER,
    FOLDER_DUMP,
    HARD_LINK,
    OLD_FILE,
    SPARSE,
    DamagedTar,
    Member,
    members,
)

CHUNK = 2**20
# Members that are read whole when they are opened.
SMALL = 2**20
# Letters of a reason that an archive gives.
MAX_REASON = 200

# Of damaged data alone: other errors of the disk or the network are no fault of the archive.
_DAMAGE = (*DAMAGE, DamagedTar, OverflowError)


@dataclass(frozen=True)
class TarArchive:
    """listed: whether it is a folder as a client of ours packs it, and no WebDataset."""

    content: Content
    gzipped: bool
    archived: bool = True
    listed: bool = False

    @property
    def name(self) -> str:
        return self.content.name

    def __iter__(self) -> Iterator[Entry]:
        """Every member that is no folder; at the end the hard links, each with the content of the member that it is
        another name of. Raises InputError where the archive is damaged or lacks its end."""
        links: dict[str, list[Entry]] = {}
        for member, stream in self._members():
            if member.kind in (FOLDER, FOLDER_DUMP):
                continue
            entry = self._entry(member, member.name, stream, _refusal(member))
            if member.kind == HARD_LINK:
                links.setdefault(member.target, []).append(entry)
            else:
                yield entry
        if links:
            yield from self._linked(links)

    def find(self, name: str) -> Entry | None:
        """Nothing in a compressed archive, whose stream has no order but its own; nor a hard link."""
        return None if self.gzipped else self._named.get(name)

    @cached_property
    def _named(self) -> dict[str, Entry]:
        files = (member for member, _ in self._members() if member.kind not in (FOLDER, FOLDER_DUMP, HARD_LINK))
        return by_clean_name(
            Entry(file.name, partial(self._apart, file.start, file.size), file.size, self.content.uri, _refusal(file))
            for file in files
        )

    def _members(self) -> Iterator[tuple[Member, BinaryIO]]:
        """Each with the stream that its content is in."""
        with self._damage(), self.content.open() as raw, self._unzipped(raw) as unzipped:
            stream = cast(BinaryIO, _Counted(unzipped))
            for member in members(stream, sys.maxsize if self.gzipped else self.content.size):
                yield member, stream
            # Reading on to the end is what compares gzip's checksum.
            while self.gzipped and unzipped.read(CHUNK):
                pass

    def _unzipped(self, raw: BinaryIO) -> AbstractContextManager[BinaryIO]:
        return gunzip(raw, self.content.size) if self.gzipped else nullcontext(raw)

    def _linked(self, links: dict[str, list[Entry]]) -> Iterator[Entry]:
        """links: by the name of the member that they mean. A stream cannot go back, so the archive is read again."""
        left = max(MAX_UNSUSPECTED_BYTES, MAX_RATIO * self.content.size)
        for member, stream in self._members():
            if _refusal(member):
                continue
            for link in links.pop(member.name, ()):
                left -= member.size
                refusal = "" if left >= 0 else f"the links would expand the archive more than {MAX_RATIO} times"
                yield self._entry(member, link.name, stream, refusal)
        for unresolved in links.values():
            yield from unresolved

    def _entry(self, member: Member, name: str, stream: BinaryIO, refusal: str) -> Entry:
        opened = partial(self._small if member.size <= SMALL else self._opened, stream, member.start, member.size)
        return Entry(name, opened, member.size, self.content.uri, refusal, not self.gzipped)

    def _small(self, stream: BinaryIO, start: int, size: int) -> BinaryIO:
        with self._damage():
            stream.seek(start)
            content = stream.read(size)
            if len(content) < size:
                raise DamagedTar("unexpected end of data")
            return io.BytesIO(content)

    @contextmanager
    def _opened(self, stream: BinaryIO, start: int, size: int) -> Iterator[BinaryIO]:
        with self._damage():
            yield cast(BinaryIO, io.BufferedReader(Window(stream, start, size)))

    @contextmanager
    def _apart(self, start: int, size: int) -> Iterator[BinaryIO]:
        """By a reader of its own, whatever else is being read."""
        with self.content.open() as stream, self._opened(stream, start, size) as file:
            yield file

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except ExpandsTooMuch as error:
            raise InputError(f"{self.name} is refused: {error}.", "Make the archive of images alone.") from error
        except _DAMAGE as error:
            raise InputError(
                f"{self.name} is damaged: the archive ends early or its data is not what was written ({error}).",
                "Compare its size with the original and upload it again.",
            ) from error


def is_tar_name(name: str) -> bool:
    return name.lower().endswith((".tar", ".tar.gz", ".tgz"))


class _Counted:
    """A stream that knows where it is: to ask it, or to have it seek there, is a call of the system."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._position = 0

    def seek(self, position: int) -> None:
        if position != self._position:
            self._position = self._stream.seek(position)

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self._position += len(content)
        return content


def _refusal(member: Member) -> str:
    if member.refused:
        return shown(member.refused)[:MAX_REASON]
    if member.kind not in (FILE, OLD_FILE, CONTIGUOUS, SPARSE):
        return "a link or device, not a file"
    return "a sparse file; make the archive without --sparse" if member.sparse else ""
