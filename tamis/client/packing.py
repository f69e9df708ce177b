"""A folder as a tar stream of known size, so that it can be sent without a copy on disk."""

import errno
import hashlib
import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from tamis.errors import InputError

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
    members: tuple[tuple[Path, tarfile.TarInfo], ...]

    def chunks(self, start: int = 0) -> Iterator[bytes]:
        """The bytes from `start` on, of `size` in all. Raises InputError when a file changed its length meanwhile."""
        if not self.members:
            yield from _file_chunks(self.root, self.size, start)
            return
        yield MARK[start:]
        start = max(start - len(MARK), 0)
        for path, info in self.members:
            header, padding = info.tobuf(tarfile.PAX_FORMAT), bytes(-info.size % BLOCK)
            whole = len(header) + info.size + len(padding)
            if start < whole:
                yield header[start:]
                if info.isreg():
                    yield from _file_chunks(path, info.size, max(start - len(header), 0))
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
    """Prepares a folder or one file for upload; of a folder its files in the order of their paths, part by part, hidden
    ones left out. What cannot be sent, such as a pipe or a link that leads nowhere, is named in the archive with the
    reason, for the server to tell.

    follow_links: whether files that links of the folder name outside of it are sent too; else InputError names one.
    """
    root = Path(source)
    if root.is_file():
        return Packed(root.name, root.stat().st_size, root, ())
    if not root.is_dir():
        what = "is no file or folder" if root.exists() else "does not exist"
        raise InputError(f"{root} {what}.", "Give a folder of images or an archive.")
    try:
        found = list(_files(root.resolve(), follow_links))
    except OSError as error:
        raise InputError(f"{root} cannot be read ({error.strerror}).", "Give its reader the right to.") from error
    if all(refusal for _, _, refusal in found):
        why = "".join(f" that can be sent; the first, {name}: {refusal}" for name, _, refusal in found[:1])
        raise InputError(f"{root} holds no files{why}.", "Give a folder of images or an archive.")
    members = tuple((path, _info(path, name, refusal)) for name, path, refusal in found)
    size = (
        len(MARK)
        + 2 * BLOCK
        + sum(len(info.tobuf(tarfile.PAX_FORMAT)) + info.size + -info.size % BLOCK for _, info in members)
    )
    return Packed(f"{root.resolve().name}.tar", size, root, members)


def _files(root: Path, follow_links: bool) -> Iterator[tuple[str, Path, str]]:
    """Names and places of those that are not hidden, in order, and why one is not sent; "" if it is. Of linked folders
    too, unless these are in the root, where their files are read, or around the link. root: without any link."""
    pending = _listing("", root, ())
    while pending:
        name, place, links = pending.pop()
        refusal = ""
        if place.is_symlink():
            try:
                target = place.resolve(strict=True)
            except (OSError, RuntimeError):
                yield name, place, "a link that leads nowhere"
                continue
            inside = target.is_relative_to(root)
            if not inside and not follow_links:
                raise InputError(
                    f"{place} is a link to {target}, which is not in {root}.",
                    "--follow-links sends what such links lead to.",
                )
            if target.is_dir():
                links = (*links, place)
                if inside:
                    refusal = "a link to a folder; its files are read where they are"
                elif any(link.is_relative_to(target) for link in links):
                    refusal = "a link to a folder around this one"
                else:
                    place = target
        if not refusal and place.is_dir():
            try:
                pending += _listing(f"{name}/", place, links)
                continue
            except OSError as error:
                refusal = f"it cannot be read ({error.strerror})"
        elif not refusal and not place.is_file():
            refusal = "a device, pipe or socket, not a file"
        elif not refusal and not os.access(place, os.R_OK):
            refusal = f"it cannot be read ({os.strerror(errno.EACCES)})"
        yield name, place, refusal


def _listing(name: str, folder: Path, links: tuple[Path, ...]) -> list[tuple[str, Path, tuple[Path, ...]]]:
    """Of what is in the folder `name`, last first: names, places, and the links to folders that lead there."""
    inner = sorted((path for path in folder.iterdir() if not path.name.startswith(".")), reverse=True)
    return [(f"{name}{path.name}", path, links) for path in inner]


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


def _info(path: Path, name: str, refusal: str) -> tarfile.TarInfo:
    """refusal: why the file is not sent but only named, for the server to tell; "" if it is sent."""
    info = tarfile.TarInfo(name)
    if refusal:
        info.type = tarfile.SYMTYPE if path.is_symlink() else tarfile.FIFOTYPE
        info.pax_headers = {"TAMIS.refused": refusal}
    else:
        info.size = path.stat().st_size
    return info


def _file_chunks(path: Path, size: int, start: int) -> Iterator[bytes]:
    left = max(size - start, 0)
    with path.open("rb") as file:
        file.seek(start)
        while left and (chunk := file.read(min(CHUNK, left))):
            left -= len(chunk)
            yield chunk
    if left:
        raise InputError(f"{path} became shorter while it was sent.", "Upload again once nothing writes to it.")
