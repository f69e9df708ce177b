"""The bytes of one file, on disk, in a bucket or uploaded, that can be read several times at once."""

import errno
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from tamis.errors import InputError
from tamis.sources.entries import Entry
from tamis.sources.folder import open_unlinked

CHUNK = 2**20


@dataclass(frozen=True)
class Content:
    """name: the file's name. open: a new reader, at the beginning. size: in bytes. uri: "" for an upload.

    beside: the file of that clean name in the same folder, if there is one that may be read.
    """

    name: str
    open: Callable[[], BinaryIO]
    size: int
    uri: str = ""
    beside: Callable[[str], Entry | None] = lambda name: None


def file_content(path: Path, place: Path, beside: Callable[[str], Entry | None]) -> Content:
    """`path` is absolute and no part of it a link; `place` is where it was asked for, that or a link to it.
    Raises InputError when it is not a file that can be read."""
    if not path.is_file():
        what = "is not a file or folder" if path.exists() else "does not exist"
        raise InputError(f"{path} {what}.", "Give a folder of images or an archive.")
    return Content(place.name, partial(open_unlinked, path), path.stat().st_size, place.as_uri(), beside)


def upload_content(file: BinaryIO, name: str | None) -> Content:
    """An open seekable file, which stays the caller's to close; its position is of no account."""
    size = file.seek(0, io.SEEK_END)
    return Content(name or "The upload", lambda: cast(BinaryIO, io.BufferedReader(Window(file, 0, size))), size)


class Window(io.RawIOBase):
    """`size` bytes of a file from `start` on, read at a position of its own; others may read the file too.

    Reading raises EOFError where the file ends before the window does.
    """

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size = file, start, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if position < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._position = position
        return position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # narrower than any buffer
        wanted = min(len(buffer), self._size - self._position)
        if wanted <= 0:
            return 0
        self._file.seek(self._start + self._position)
        content = self._file.read(wanted)
        if not content:
            raise EOFError("unexpected end of data")
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def readall(self) -> bytes:
        return b"".join(iter(partial(self.read, CHUNK), b""))
