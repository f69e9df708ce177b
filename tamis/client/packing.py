"""A folder as a tar stream of known size, so that it can be sent without a copy on disk."""

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tamis.errors import InputError

CHUNK = 1 << 20
# Of a tar archive: headers and contents are padded to it.
BLOCK = 512


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
    """Prepares a folder (its files in sorted order, hidden ones left out) or one file for upload.

    follow_links: whether files that links of the folder name outside of it are sent too; else InputError names one.
    """
    root = Path(source)
    if root.is_file():
        return Packed(root.name, root.stat().st_size, root, ())
    if not root.is_dir():
        raise InputError(f"{root} does not exist.", "Give a folder of images or an archive.")
    # In the order in which the folder itself is read.
    names = [
        path.relative_to(root).as_posix()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)
    ]
    if not names:
        raise InputError(f"{root} holds no files.", "Give a folder of images or an archive.")
    if not follow_links:
        _refuse_links_out(root, names)
    members = tuple((root / name, _info(root / name, name)) for name in names)
    size = 2 * BLOCK + sum(len(info.tobuf(tarfile.PAX_FORMAT)) + info.size + -info.size % BLOCK for _, info in members)
    return Packed(f"{root.resolve().name}.tar", size, root, members)


def _refuse_links_out(root: Path, names: list[str]) -> None:
    inside = root.resolve()
    for name in names:
        target = (root / name).resolve()
        if not target.is_relative_to(inside):
            raise InputError(
                f"{root / name} is a link to {target}, which is not in {root}.",
                "--follow-links sends what such links lead to.",
            )


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
