"""A folder as a tar stream of known size, so that it can be sent without a copy on disk."""

import hashlib
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
    ones left out.

    follow_links: whether files that links of the folder name outside of it are sent too; else InputError names one.
    """
    root = Path(source)
    if root.is_file():
        return Packed(root.name, root.stat().st_size, root, ())
    if not root.is_dir():
        raise InputError(f"{root} does not exist.", "Give a folder of images or an archive.")
    names = [path.as_posix() for path in sorted(path.relative_to(root) for path in _files(root, root, follow_links))]
    if not names:
        raise InputError(f"{root} holds no files.", "Give a folder of images or an archive.")
    if not follow_links:
        for name in names:
            _refuse_link_out(root, root / name)
    members = tuple((root / name, _info(root / name, name)) for name in names)
    size = (
        len(MARK)
        + 2 * BLOCK
        + sum(len(info.tobuf(tarfile.PAX_FORMAT)) + info.size + -info.size % BLOCK for _, info in members)
    )
    return Packed(f"{root.resolve().name}.tar", size, root, members)


def _files(root: Path, folder: Path, follow_links: bool, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Those that are not hidden; of linked folders too, unless these are in the root, where their files are read, or
    lead around in a circle. above: where the folders that lead here are."""
    inside = root.resolve()
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if not path.is_dir():
            if path.is_file():
                yield path
            continue
        target = path.resolve()
        if path.is_symlink():
            if not follow_links:
                _refuse_link_out(root, path)
            if target.is_relative_to(inside) or any(place.is_relative_to(target) for place in (inside, *above)):
                continue
        yield from _files(root, path, follow_links, (*above, target))


def _refuse_link_out(root: Path, path: Path) -> None:
    target = path.resolve()
    if not target.is_relative_to(root.resolve()):
        raise InputError(
            f"{path} is a link to {target}, which is not in {root}.",
            "--follow-links sends what such links lead to.",
        )


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


def _info(path: Path, name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
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
