"""The bytes of one file, on disk, in a bucket or uploaded, that can be read several times at once."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from tamis.errors import InputError
from tamis.sources.entries import Entry
from tamis.sources.folder import open_unlinked


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


def file_content(path: Path, beside: Callable[[str], Entry | None]) -> Content:
    """`path` is absolute and no part of it a link. Raises InputError when it is not a file that can be read."""
    if not path.is_file():
        what = "is not a file or folder" if path.exists() else "does not exist"
        raise InputError(f"{path} {what}.", "Give a folder of images or an archive.")
    return Content(path.name, partial(open_unlinked, path), path.stat().st_size, path.as_uri(), beside)


def upload_content(file: BinaryIO, name: str | None) -> Content:
    """An open seekable file, which stays the caller's to close; its position is of no account."""
    return Content(
        name or "The upload", lambda: cast(BinaryIO, io.BufferedReader(_View(file))), file.seek(0, io.SEEK_END)
    )


class _View(io.RawIOBase):
    """A reader with a position of its own over a file that others read too."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._file.seek(self._position)
        self._position = self._file.seek(offset, whence)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # narrower than any buffer
        self._file.seek(self._position)
        content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)
