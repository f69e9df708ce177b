"""A folder on this machine: its files folder by folder, each sorted by name, hidden ones left out."""

import errno
import os
import stat
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
_OUT_OF_REACH = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO}
_PASSED = os.O_DIRECTORY | os.O_NOFOLLOW | getattr(os, "O_PATH", os.O_RDONLY)


@dataclass(frozen=True)
class Folder:
    """`root` is absolute and no part of it a link."""

    root: Path
    archived: bool = False
    listed: bool = True

    @property
    def name(self) -> str:
        return str(self.root)

    def __iter__(self) -> Iterator[Entry]:
        """Raises InputError when the folder itself cannot be read; one inside it is an entry that is refused."""
        try:
            pending = _listing(self.root, "")
        except OSError as error:
            raise InputError(
                f"{self.root} cannot be read ({_known(error)}).", "Give its reader the right to."
            ) from error
        while pending:
            name = pending.pop()
            if not name.endswith("/"):
                yield self._entry(name)
                continue
            try:
                pending += _listing(self.root, name)
            except OSError as error:
                yield _refused(name, f"it cannot be read ({_known(error)})")

    def find(self, name: str) -> Entry | None:
        return self._entry(name) if os.path.lexists(self.root / name) else None

    def _entry(self, name: str) -> Entry:
        try:
            path, refusal = _target(self.root, name)
            if refusal:
                return _refused(name, refusal)
            size = path.lstat().st_size
        except OSError as error:
            return _refused(name, f"it cannot be read ({_known(error)})")
        uri = f"{self.root.as_uri().rstrip('/')}/{quote(os.fsencode(name))}"
        return Entry(name, partial(_open, path), size, uri)


def open_unlinked(path: Path) -> BinaryIO:
    """The file at exactly `path`, which is absolute. Raises OSError when there is none, or any part of it is a link:
    whoever checked where `path` is cannot be led elsewhere by a link that was put there meanwhile."""
    descriptor = _descriptor(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.ENXIO, "not a file")
    return os.fdopen(descriptor, "rb")


def _descriptor(path: Path, flags: int) -> int:
    folder = os.open("/", _PASSED)
    try:
        for part in path.parts[1:-1]:
            inner = os.open(part, _PASSED, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(path.name or ".", flags | os.O_NOFOLLOW, dir_fd=folder)
    finally:
        os.close(folder)


def _listing(root: Path, folder: str) -> list[str]:
    """What is in `folder` (relative, with a slash at its end) and not hidden, last first; folders end in a slash."""
    descriptor = _descriptor(root / folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.scandir(descriptor) as found:
            names = [
                f"{folder}{item.name}{'/' * item.is_dir(follow_symlinks=False)}"
                for item in found
                if not item.name.startswith(".")
            ]
    finally:
        os.close(descriptor)
    # The slash does not count, as it does not in the order of `Path`s: "cat" comes before "cat-wild".
    return sorted(names, key=lambda name: name.rstrip("/"), reverse=True)


def _target(root: Path, name: str) -> tuple[Path, str]:
    """The file that `name` is or leads to, and why it must not be opened."""
    path = root / name
    if path.is_symlink():
        try:
            path = path.resolve(strict=True)
        except (OSError, RuntimeError):
            return path, "a link that leads nowhere"
        if not path.is_relative_to(root):
            return path, "a link to outside the folder"
        if path.is_dir():
            return path, "a link to a folder; its files are read where they are"
    return path, "" if stat.S_ISREG(path.lstat().st_mode) else "a device, pipe or socket, not a file"


def _refused(name: str, refusal: str) -> Entry:
    return Entry(name, partial(_open, Path("/")), refusal=refusal)


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    try:
        file = open_unlinked(path)
    except OSError as error:
        raise EntryError(f"it cannot be read ({_known(error)})") from error
    with file:
        yield file


def _known(error: OSError) -> str:
    """What is wrong with one file or folder. Raises other errors again."""
    if error.errno not in _OUT_OF_REACH:
        raise error
    return "a link took its place" if error.errno == errno.ELOOP else error.strerror or ""
