"""A tar archive, gzipped or not: its members in the order they come in."""

import io
import sys
import tarfile
import zlib
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
# Members that are read whole when they are opened.
SMALL = 2**20

BLOCK = tarfile.BLOCKSIZE
HALF = BLOCK // 2

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
            yield from self._entries(_Counted(stream))
            # Reading on to the end is what compares gzip's checksum.
            while self.gzipped and stream.read(CHUNK):
                pass

    def find(self, name: str) -> None:
        """Nothing: a stream has no order but its own."""

    def _unzipped(self, raw: BinaryIO) -> AbstractContextManager[BinaryIO]:
        return gunzip(raw, self.content.size) if self.gzipped else nullcontext(raw)

    def _entries(self, stream: "_Counted") -> Iterator[Entry]:
        """Every member that is no folder.

        `TarFile.next` is not used: it keeps all members in memory, and takes a damaged header for the archive's end.
        """
        end = sys.maxsize if self.gzipped else self.content.size
        position = 0
        entry: Entry | None
        try:
            with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r:", tarinfo=_Member) as archive:
                while True:
                    stream.seek(position)
                    # What a global header says is of every member after it.
                    small = None if archive.pax_headers else _small_file(stream.read(BLOCK))
                    if small is not None:
                        entry, after = self._small(stream, position + BLOCK, *small)
                    else:
                        stream.seek(position)
                        archive.offset = position
                        entry = self._member(archive, _Member.fromtarfile(archive))
                        after = archive.offset
                    if not position < after <= end:
                        raise tarfile.ReadError("unexpected end of data")
                    position = after
                    if entry is not None:
                        yield entry
        except _End:
            return

    def _small(self, stream: "_Counted", start: int, name: str, size: int) -> tuple[Entry, int]:
        opened = partial(self._read, stream, start, size)
        return Entry(name, opened, size, self.content.uri, "", not self.gzipped), start - size // -BLOCK * BLOCK

    def _read(self, stream: "_Counted", start: int, size: int) -> BinaryIO:
        with self._damage():
            stream.seek(start)
            content = stream.read(size)
            if len(content) < size:
                raise tarfile.ReadError("unexpected end of data")
            return io.BytesIO(content)

    def _member(self, archive: tarfile.TarFile, info: tarfile.TarInfo) -> Entry | None:
        if info.size < 0:
            raise tarfile.ReadError("unexpected end of data")
        if info.isdir():
            return None
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
    return len(block) == BLOCK and not any(block)


class _End(Exception):  # noqa: N818  the way out of a parser, not an error
    """The block of zeros that ends an archive."""


class _Member(tarfile.TarInfo):
    """A header that is checked before anything is done with what it says."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        if _ends(buf):
            raise _End
        info = super().frombuf(buf, encoding, errors)
        if info.size < 0 or (info.type in _HEADERS and info.size > MAX_HEADER_BYTES):
            raise tarfile.ReadError(f"a header of {info.size} bytes")
        return info


def _small_file(header: bytes) -> tuple[str, int] | None:
    """Name and size of a regular file of at most SMALL bytes, in a twentieth of the standard parser's time; None leaves
    the header to that."""
    size, stated = header[124:135], header[148:154]
    if header[156:157] != tarfile.REGTYPE or not (size + stated).isdigit():
        return None
    if header[135] not in b"\0 " or header[154:156] not in _ENDS_OF_SUM or len(header) != BLOCK:
        return None
    try:
        length, total = int(size, 8), int(stated, 8)
    except ValueError:
        return None
    # The checksum counts its own eight bytes as spaces.
    if length > SMALL or total != _sum(header[:HALF]) + _sum(header[HALF:]) - sum(header[148:156]) + 8 * 32:
        return None
    name = _text(header[:100])
    return (f"{_text(header[345:500])}/{name}" if header[345] else name), length


def _sum(part: bytes) -> int:
    """Of the values of at most 256 bytes: the lower half of their Adler-32, which is quicker than adding them up."""
    return (zlib.adler32(part) & 0xFFFF) - 1


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(tarfile.ENCODING, "surrogateescape")


class _Counted:
    """A stream that knows where it is: to ask it, as tarfile does of every member, is a call of the system."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._position = 0

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        if position != self._position:
            self._position = self._stream.seek(position)

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self._position += len(content)
        return content


def _refusal(info: tarfile.TarInfo) -> str:
    if not info.isreg():
        return "a link or device, not a file"
    return "a sparse file; make the archive without --sparse" if info.issparse() else ""
