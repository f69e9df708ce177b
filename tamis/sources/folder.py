"""A folder on this machine: its files in the order of their relative paths, part by part, as ImageFolder and a sorted
list of Path objects have them; hidden ones left out."""

import errno
import os
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from tamis.errors import InputError
from tamis.sources.entries import Entry, EntryError

OUTSIDE = "a link to outside the folder"
# Of one file or folder alone; other errors are of the disk or the network, and no reason to go on without a file.
_OUT_OF_REACH = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO}
_PASSED = os.O_DIRECTORY | os.O_NOFOLLOW | getattr(os, "O_PATH", os.O_RDONLY)


@dataclass(frozen=True)
class Folder:
    """root: absolute, and no part of it a link. follow: whether links that lead out of it are followed, to files and to
    folders, as the user's own rights allow; on a server they are not."""

    root: Path
    follow: bool = False
    archived: bool = False
    listed: bool = True
    # The names in a folder as they are stored, by their clean ones: of those in which one was looked for.
    stored: dict[Path, dict[str, str]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        return str(self.root)

    def __iter__(self) -> Iterator[Entry]:
        """Raises InputError when the folder itself cannot be read; one inside it is an entry that is refused."""
        # By the names of the linked folders, where the links are.
        linked: dict[str, Path] = {}
        try:
            pending = _listing("", self.root)
        except OSError as error:
            raise InputError(
                f"{self.root} cannot be read ({_known(error)}).", "Give its reader the right to."
            ) from error
        while pending:
            name, place = pending.pop()
            if not name.endswith("/"):
                target = self._linked_folder(name, place, linked)
                if target is None:
                    yield self._entry(name, place)
                    continue
                linked[f"{name}/"] = place
                name, place = f"{name}/", target
            try:
                pending += _listing(name, place)
            except OSError as error:
                yield _refused(name, f"it cannot be read ({_known(error)})")

    def find(self, name: str) -> Entry | None:
        """Of the same files as are gone through."""
        place, inner = self.root, ""
        linked: dict[str, Path] = {}
        *folders, last = name.split("/")
        for folder in folders:
            place, inner = self._called(place, folder), f"{inner}{folder}"
            if not os.path.lexists(place):
                return None
            if place.is_symlink():
                target = self._linked_folder(inner, place, linked)
                if target is None:
                    return None
                linked[f"{inner}/"] = place
                place = target
            inner += "/"
        place = self._called(place, last)
        return self._entry(name, place) if os.path.lexists(place) else None

    def _called(self, folder: Path, name: str) -> Path:
        """What has that clean name in the folder, in whichever form of Unicode it is stored."""
        if name.isascii():
            return folder / name
        if folder not in self.stored:
            inner: list[str] = []
            with suppress(OSError):
                inner = sorted((path.name for path in folder.iterdir()), reverse=True)
            self.stored[folder] = {unicodedata.normalize("NFC", each): each for each in inner}
        return folder / self.stored[folder].get(name, name)

    def _linked_folder(self, name: str, place: Path, linked: Mapping[str, Path]) -> Path | None:
        """Where a link out of the root leads to, if that is a folder, and none around this one or one on the way."""
        if not self.follow or not place.is_symlink() or not place.is_dir():
            return None
        target = place.resolve()
        on_the_way = (link for inner, link in linked.items() if name.startswith(inner))
        around = any(link.is_relative_to(target) for link in (place, *on_the_way))
        return None if around or target.is_relative_to(self.root) else target

    def _entry(self, name: str, place: Path) -> Entry:
        try:
            path, refusal = _target(self.root, place, self.follow)
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


def _listing(name: str, folder: Path) -> list[tuple[str, Path]]:
    """The names and places of what is in the folder `name` and not hidden, last first; folders' names end in a slash.
    Raises OSError where any part of the path is a link."""
    descriptor = _descriptor(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.scandir(descriptor) as found:
            inner = {
                item.name: "/" * item.is_dir(follow_symlinks=False) for item in found if not item.name.startswith(".")
            }
    finally:
        os.close(descriptor)
    # What is in the folder "cat" comes before what is in "cat-wild", as no slash is compared with a letter.
    return [(f"{name}{each}{inner[each]}", folder / each) for each in sorted(inner, reverse=True)]


def _target(root: Path, path: Path, follow: bool) -> tuple[Path, str]:
    """The file that `path` is or leads to, and why it must not be opened."""
    if path.is_symlink():
        try:
            path = path.resolve(strict=True)
        except (OSError, RuntimeError):
            return path, "a link that leads nowhere"
        if not follow and not path.is_relative_to(root):
            return path, OUTSIDE
        if path.is_dir():
            inside = path.is_relative_to(root)
            return path, f"a link to a folder{'; its files are read where they are' if inside else ' around this one'}"
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
