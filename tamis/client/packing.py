"""A folder as a tar stream of known size, so that it can be sent without a copy on disk."""

import hashlib
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from tamis.errors import InputError
from tamis.sources.entries import Entry, EntryError
from tamis.sources.folder import OUTSIDE, Folder
from tamis.sources.formats import format_of

CHUNK = 1 << 20
# Of a tar archive: headers and contents are padded to it.
BLOCK = 512
# Tells the server's reader that the archive is a folder, and not a WebDataset however its files are called.
MARK = tarfile.TarInfo.create_pax_global_header({"TAMIS.packed": "folder"})


@dataclass(frozen=True)
class Packed:
    """What an upload sends. `members` is empty for a single file, which is sent as it is."""

    name: str
    size: int
    root: Path
    members: tuple[tuple[Entry, tarfile.TarInfo], ...]

    def chunks(self, start: int = 0) -> Iterator[bytes]:
        """The bytes from `start` on, of `size` in all. Raises InputError when a file changed its length meanwhile."""
        if not self.members:
            yield from _content(lambda: self.root.open("rb"), str(self.root), self.size, start)
            return
        yield MARK[start:]
        start = max(start - len(MARK), 0)
        for entry, info in self.members:
            header, padding = info.tobuf(tarfile.PAX_FORMAT), bytes(-info.size % BLOCK)
            whole = len(header) + info.size + len(padding)
            if start < whole:
                yield header[start:]
                if info.isreg():
                    yield from _content(entry.open, entry.name, info.size, max(start - len(header), 0))
                yield padding[max(start - len(header) - info.size, 0) :]
            start = max(start - whole, 0)
        yield bytes(2 * BLOCK)[start:]

    def sha256(self) -> str:
        """Of all the bytes; reads them all. The same files make the same bytes, so it knows them again."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()


def pack(source: str | Path, follow_links: bool = False) -> Packed:
    """Prepares a folder or one file for upload; of a folder the files that `tamis.sources` reads there, in its order,
    and beside a file of many images those of their labels. What cannot be sent, such as a pipe or a link that leads
    nowhere, is named in the archive with the reason, for the server to tell.

    follow_links: whether files that links of the folder name outside of it are sent too; else InputError names one.
    """
    root = Path(source)
    if root.is_file():
        beside = _companions(root)
        if not beside:
            return Packed(root.name, root.stat().st_size, root, ())
        return _packed(root, [Entry(root.name, lambda: root.open("rb"), root.stat().st_size), *beside])
    if not root.is_dir():
        what = "is no file or folder" if root.exists() else "does not exist"
        raise InputError(f"{root} {what}.", "Give a folder of images or an archive.")
    found = list(Folder(root.resolve(), follow=follow_links))
    for entry in found:
        if entry.refusal == OUTSIDE:
            link = root / entry.name
            raise InputError(
                f"{link} is a link to {link.resolve()}, which is not in {root}.",
                "--follow-links sends what such links lead to.",
            )
    if all(entry.refusal for entry in found):
        why = "".join(f" that can be sent; the first, {entry.name}: {entry.refusal}" for entry in found[:1])
        raise InputError(f"{root} holds no files{why}.", "Give a folder of images or an archive.")
    return _packed(root, found)


def _companions(file: Path) -> list[Entry]:
    """What is beside a file of many images and says something about them."""
    holder = format_of(file.name)
    around = Folder(file.parent.resolve(), follow=True)
    found = (around.find(name) for name in sorted(holder.companions(file.name))) if holder else ()
    return [entry for entry in found if entry is not None and not entry.refusal]


def _packed(root: Path, found: Iterable[Entry]) -> Packed:
    members = tuple(map(_member, found))
    size = (
        len(MARK)
        + 2 * BLOCK
        + sum(len(info.tobuf(tarfile.PAX_FORMAT)) + info.size + -info.size % BLOCK for _, info in members)
    )
    return Packed(f"{root.resolve().name}.tar", size, root, members)


def _member(entry: Entry) -> tuple[Entry, tarfile.TarInfo]:
    """What cannot be opened is not sent but only named."""
    info, refusal = tarfile.TarInfo(entry.name.rstrip("/")), entry.refusal
    if not refusal:
        try:
            with entry.open():
                info.size = entry.size or 0
        except EntryError as error:
            refusal = str(error)
    if refusal:
        info.type = tarfile.FIFOTYPE
        info.pax_headers = {"TAMIS.refused": refusal}
    return entry, info


def unpack(chunks: Iterator[bytes], folder: Path) -> None:
    """Writes the files of a tar archive that comes in chunks into the folder. Raises InputError where it ends early."""
    try:
        with tarfile.open(fileobj=cast(IO[bytes], _Stream(chunks)), mode="r|") as archive:
            for member in archive:
                content = archive.extractfile(member)
                path = folder / member.name
                if content is not None and path.resolve().is_relative_to(folder.resolve()):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with path.open("wb") as file:
                        shutil.copyfileobj(content, file)
    except (tarfile.TarError, EOFError) as error:
        raise InputError("The archive ended early: the server's log says why.", "Ask for it again.") from error


class _Stream:
    """Chunks as a file to read from, once."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (chunk := next(self._chunks, b"")):
            self._rest += chunk
        part, self._rest = self._rest[:size], self._rest[size:]
        return part


def _content(
    open_: Callable[[], AbstractContextManager[BinaryIO]], name: str, size: int, start: int
) -> Iterator[bytes]:
    left = max(size - start, 0)
    with open_() as file:
        file.seek(start)
        while left and (chunk := file.read(min(CHUNK, left))):
            left -= len(chunk)
            yield chunk
    if left:
        raise InputError(f"{name} became shorter while it was sent.", "Upload again once nothing writes to it.")
