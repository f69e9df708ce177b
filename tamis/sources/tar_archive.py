"""A tar archive, gzipped or not: its members in the order they come in."""

import sys
import tarfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Self, cast

from tamis.errors import InputError
from tamis.sources.content import Content
from tamis.sources.entries import Entry
from tamis.sources.gunzip import DAMAGE, ExpandsTooMuch, gunzip

# Names and attributes of a member; a reader that takes any length can be made to fill memory.
MAX_HEADER_BYTES = 64 * 2**10
CHUNK = 2**20

_ENDS_OF_SUM = (b"\0 ", b" \0", b"  ")
_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
# Of damaged data alone: other errors of the disk or the network are no fault of the archive.
_DAMAGE = (
    *DAMAGE,
    tarfile.TarError,
    ValueError,
    IndexError,
    OverflowError,
    RecursionError,
)


@dataclass(frozen=True)
class TarArchive:
    content: Content
    gzipped: bool
    archived: bool = True
    listed: bool = False

    @property
    def name(self) -> str:
        return self.content.name

    def __iter__(self) -> Iterator[Entry]:
        """Raises InputError where the archive is damaged or lacks its end."""
        with self._damage(), self.content.open() as raw, self._unzipped(raw) as stream:
            end = sys.maxsize if self.gzipped else self.content.size
            for archive, info in _members(stream, end):
                if not info.isdir():
                    yield self._entry(archive, info)
            # Reading on to the end is what compares gzip's checksum.
            while self.gzipped and stream.read(CHUNK):
                pass

    def find(self, name: str) -> None:
        """Nothing: a stream has no order but its own."""

    def _unzipped(self, raw: BinaryIO) -> AbstractContextManager[BinaryIO]:
        return gunzip(raw, self.content.size) if self.gzipped else nullcontext(raw)

    def _entry(self, archive: tarfile.TarFile, info: tarfile.TarInfo) -> Entry:
        opened = partial(self._opened, archive, info)
        return Entry(info.name, opened, info.size, self.content.uri, _refusal(info), seekable=not self.gzipped)

    @contextmanager
    def _opened(self, archive: tarfile.TarFile, info: tarfile.TarInfo) -> Iterator[BinaryIO]:
        with self._damage(), cast(BinaryIO, archive.extractfile(info)) as file:
            yield file

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except ExpandsTooMuch as error:
            raise InputError(f"{self.name} is refused: {error}.", "Make the archive of images alone.") from error
        except _DAMAGE as error:
            raise InputError(
                f"{self.name} is damaged: the archive ends early or its data is not what was written ({error}).",
                "Compare its size with the original and upload it again.",
            ) from error


def is_tar_name(name: str) -> bool:
    return name.lower().endswith((".tar", ".tar.gz", ".tgz"))


def is_tar(block: bytes) -> bool:
    """Whether `block`, the first 512 bytes of a file, begins a tar archive, be it an empty one."""
    if _ends(block):
        return True
    try:
        tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")
    except _DAMAGE:
        return False
    return True


def _ends(block: bytes | bytearray) -> bool:
    return len(block) == tarfile.BLOCKSIZE and not any(block)


class _End(Exception):  # noqa: N818  the way out of a parser, not an error
    """The block of zeros that ends an archive."""


class _Member(tarfile.TarInfo):
    """A header that is checked before anything is done with what it says."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        if _ends(buf):
            raise _End
        info = cls._ordinary(buf, encoding, errors) or super().frombuf(buf, encoding, errors)
        if info.size < 0 or (info.type in _HEADERS and info.size > MAX_HEADER_BYTES):
            raise tarfile.ReadError(f"a header of {info.size} bytes")
        return info

    @classmethod
    def _ordinary(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self | None:
        """A regular file with its name and size, in a third of the standard parser's time; None leaves it to that."""
        size, total = buf[124:135], buf[148:154]
        if len(buf) != tarfile.BLOCKSIZE or buf[156:157] != tarfile.REGTYPE or not (size + total).isdigit():
            return None
        if b"8" in size + total or b"9" in size + total or buf[135] not in b"\0 " or buf[154:156] not in _ENDS_OF_SUM:
            return None
        # The checksum counts its own eight bytes as spaces.
        if int(total, 8) != sum(buf[:148]) + 8 * 32 + sum(buf[156:]):
            return None
        prefix, name = (field.split(b"\0", 1)[0].decode(encoding, errors) for field in (buf[345:500], buf[:100]))
        info = cls(f"{prefix}/{name}" if prefix else name)
        info.type, info.size = tarfile.REGTYPE, int(size, 8)
        return info


def _members(stream: BinaryIO, end: int) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Every member, with the archive to extract it from.

    `TarFile.next` is not used: it keeps all members in memory, and takes a damaged header for the archive's end.
    """
    try:
        with tarfile.open(fileobj=stream, mode="r:", tarinfo=_Member) as archive:
            archive.offset = position = 0
            while True:
                stream.seek(position)
                info = _Member.fromtarfile(archive)
                if not position < archive.offset <= end or info.size < 0:
                    raise tarfile.ReadError("unexpected end of data")
                position = archive.offset
                yield archive, info
    except _End:
        return


def _refusal(info: tarfile.TarInfo) -> str:
    if not info.isreg():
        return "a link or device, not a file"
    return "a sparse file; make the archive without --sparse" if info.issparse() else ""
