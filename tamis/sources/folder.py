"""A folder on this machine: its files in the order of their relative paths, hidden ones left out."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from tamis.errors import InputError
from tamis.sources.entries import Entry, EntryError

# Of one file or folder alone; other errors are of the disk or the network, and no reason to go on without a file.
_OUT_OF_REACH = (PermissionError, FileNotFoundError, NotADirectoryError)


@dataclass(frozen=True)
class Folder:
    """`root` is absolute and no link."""

    root: Path
    archived: bool = False
    listed: bool = True

    @property
    def name(self) -> str:
        return str(self.root)

    def __iter__(self) -> Iterator[Entry]:
        """Raises InputError when the folder itself cannot be read; one inside it is an entry that is refused."""
        try:
            pending = _listing(self.root)
        except _OUT_OF_REACH as error:
            raise InputError(
                f"{self.root} cannot be read ({error.strerror}).", "Give its reader the right to."
            ) from error
        prefix = f"{str(self.root).rstrip('/')}/"
        while pending:
            item = pending.pop()
            name = item.path.removeprefix(prefix)
            try:
                if item.is_dir(follow_symlinks=False):
                    pending += _listing(item)
                    continue
                entry = _entry(self.root, name, item)
            except _OUT_OF_REACH as error:
                entry = file_entry(name, item.path, refusal=f"it cannot be read ({error.strerror})")
            yield entry


def file_entry(name: str, path: str, size: int | None = None, uri: str = "", refusal: str = "") -> Entry:
    """An entry that is the file at `path`."""
    return Entry(name, partial(_open, path), size, uri, refusal)


def _listing(folder: str | os.PathLike[str]) -> list["os.DirEntry[str]"]:
    """What is in `folder` and not hidden, last first."""
    with os.scandir(folder) as found:
        visible = [item for item in found if not item.name.startswith(".")]
    # The separator counts in the order of paths: the file "a.png" comes before what is in the folder "a".
    return sorted(visible, key=lambda item: item.name + "/" * item.is_dir(follow_symlinks=False), reverse=True)


def _entry(root: Path, name: str, item: "os.DirEntry[str]") -> Entry:
    refusal = _refusal(root, item)
    if refusal:
        return file_entry(name, item.path, refusal=refusal)
    uri = f"{root.as_uri().rstrip('/')}/{quote(os.fsencode(name))}"
    return file_entry(name, item.path, item.stat().st_size, uri)


def _refusal(root: Path, item: "os.DirEntry[str]") -> str:
    if item.is_symlink():
        try:
            target = Path(item.path).resolve(strict=True)
        except (OSError, RuntimeError):
            return "a link that leads nowhere"
        if not target.is_relative_to(root):
            return "a link to outside the folder"
        if target.is_dir():
            return "a link to a folder; its files are read where they are"
    return "" if item.is_file() else "a device, pipe or socket, not a file"


@contextmanager
def _open(path: str) -> Iterator[BinaryIO]:
    try:
        with Path(path).open("rb") as file:
            yield file
    except _OUT_OF_REACH as error:
        raise EntryError(f"it cannot be read ({error.strerror})") from error
