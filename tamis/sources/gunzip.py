"""Gzip streams, refused where they expand as nothing but a trap does."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from tamis.sources.entries import MAX_RATIO, MAX_UNSUSPECTED_BYTES, EntryError

GZIP_MAGIC = b"\x1f\x8b"
STEP = 2**20

DAMAGE = (gzip.BadGzipFile, zlib.error, EOFError)


class ExpandsTooMuch(Exception):  # noqa: N818  a finding, which each container words in its way
    """The stream is larger than MAX_UNSUSPECTED_BYTES and MAX_RATIO times its compressed size."""


def gunzip(raw: BinaryIO, size: int | None) -> BinaryIO:
    """What the gzip file `raw` of `size` bytes holds. Reading raises ExpandsTooMuch or one of DAMAGE."""
    return cast(BinaryIO, io.BufferedReader(_Inflating(raw, size), STEP))


@contextmanager
def unzipped(raw: BinaryIO, gzipped: bool, size: int | None) -> Iterator[BinaryIO]:
    """`raw`, or what it holds if it is gzipped. Raises EntryError for damage found while it is read."""
    if not gzipped:
        yield raw
        return
    try:
        with gunzip(raw, size) as file:
            yield file
    except DAMAGE as error:
        raise EntryError(f"the gzip data ends early or is damaged ({error})") from error
    except ExpandsTooMuch as error:
        raise EntryError(str(error)) from error


class _Inflating(io.RawIOBase):
    def __init__(self, raw: BinaryIO, size: int | None) -> None:
        self._file = gzip.GzipFile(fileobj=raw)
        self._limit = None if size is None else max(MAX_UNSUSPECTED_BYTES, MAX_RATIO * size)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # narrower than any buffer
        count = self._file.readinto(buffer)
        self._check()
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_CUR:
            offset += self._file.tell()
        # A long way forward is gone in steps: every byte passed over is inflated too.
        while (position := self._file.tell()) < offset - STEP and self._file.seek(position + STEP) > position:
            self._check()
        return self._file.seek(offset)

    def _check(self) -> None:
        if self._limit is not None and self._file.tell() > self._limit:
            raise ExpandsTooMuch(f"it would expand more than {MAX_RATIO} times")
