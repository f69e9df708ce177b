"""IDX, the format of the MNIST family: all images in one file, their labels in another, each gzipped or not.

The layout is LeCun's: a magic number, then one big-endian 32-bit length a dimension, then unsigned bytes.
"""

import gzip
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

from tamis.errors import InputError
from tamis.images import MAX_PIXELS
from tamis.sources.content import Content
from tamis.sources.entries import MAX_ENTRIES, Entry, EntryError
from tamis.sources.folder import file_entry

IMAGES_MAGIC = b"\x00\x00\x08\x03"
LABELS_MAGIC = b"\x00\x00\x08\x01"
GZIP_MAGIC = b"\x1f\x8b"
DEFAULT_NAME = "images-idx3-ubyte"

_IMAGES = re.compile(r"(?:^|(?<=[^A-Za-z0-9]))images([-.])idx3-ubyte(?:\.gz)?$")
_LABELS = re.compile(r"(?:^|(?<=[^A-Za-z0-9]))labels[-.]idx1-ubyte(?:\.gz)?$")
# Of an upload's name, which is only a hint: one that would be hidden or refused in an archive is not used.
_PLAIN = re.compile(r"\w[\w. -]*")
_HEADER = struct.Struct(">4sIII")
_GZIP_DAMAGE = (gzip.BadGzipFile, zlib.error, EOFError)


@dataclass(frozen=True)
class IdxFile:
    """A lone file of images, and the labels beside it if it is on this machine. `name` is its name as IDX."""

    content: Content
    gzipped: bool
    name: str
    archived: bool = True
    listed: bool = True

    def __iter__(self) -> Iterator[Entry]:
        """The images, already unzipped, any damage of which is an InputError; then the labels."""
        yield Entry(self.name, self._open, None if self.gzipped else self.content.size, self.content.uri)
        if self.content.path is not None:
            folder = self.content.path.parent
            for name in sorted(labels_names(self.content.path.name)):
                if (folder / name).is_file():
                    yield file_entry(name, str(folder / name), (folder / name).stat().st_size)

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        try:
            with self.content.open() as raw, unzipped(raw, self.gzipped) as file:
                yield file
        except EntryError as error:
            raise InputError(
                f"{self.content.name} is not a whole IDX file: {error}.",
                "Compare its size with the original and upload it again.",
            ) from error


def open_idx(content: Content, gzipped: bool) -> IdxFile:
    """Raises InputError when the header is not that of images or, unless gzipped, does not match the file's length."""
    name = content.name.removesuffix(".gz")
    container = IdxFile(content, gzipped, name if is_images(name) and _PLAIN.fullmatch(name) else DEFAULT_NAME)
    images = next(iter(container))
    with images.open() as file:
        read_shape(file, images.size)
    return container


def is_images(name: str) -> bool:
    return _IMAGES.search(name) is not None


def is_labels(name: str) -> bool:
    return _LABELS.search(name) is not None


def labels_names(name: str) -> set[str]:
    """What the labels of the images file `name` may be called; empty when it is not called like one."""
    labels = _IMAGES.sub(r"labels\1idx1-ubyte", name)
    return {labels, f"{labels}.gz"} if is_images(name) else set()


@contextmanager
def unzipped(raw: BinaryIO, gzipped: bool) -> Iterator[BinaryIO]:
    """`raw`, or what it holds if it is gzipped. Raises EntryError for damage found while it is read."""
    if not gzipped:
        yield raw
        return
    try:
        with gzip.GzipFile(fileobj=raw) as file:
            yield cast(BinaryIO, file)
    except _GZIP_DAMAGE as error:
        raise EntryError(f"the gzip data ends early or is damaged ({error})") from error


def read_shape(file: BinaryIO, size: int | None) -> tuple[int, int, int]:
    """Count, height and width from the header. Raises EntryError if it is none or contradicts `size`, the file's."""
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(IMAGES_MAGIC):
        raise EntryError("it does not begin with the header of IDX images")
    _, count, height, width = _HEADER.unpack(header)
    if not 0 < height * width <= MAX_PIXELS:
        raise EntryError(f"its header says images of {width} x {height} pixels")
    needed = _HEADER.size + count * height * width
    if size is not None and size != needed:
        raise EntryError(f"its header says {count} images of {width} x {height} pixels, {needed} bytes; it has {size}")
    return count, height, width


def read_images(file: BinaryIO, shape: tuple[int, int, int]) -> Iterator[bytes]:
    """The images that follow the header, each as a PNG file. Raises EntryError if there are fewer or more."""
    count, height, width = shape
    for number in range(count):
        pixels = file.read(height * width)
        if len(pixels) < height * width:
            raise EntryError(f"it ends after {number} of {count} images")
        yield _png(pixels, height, width)
    if file.read(1):
        raise EntryError(f"it goes on after the {count} images its header says; those were kept")


def read_labels(file: BinaryIO) -> bytes:
    """One byte a label. Raises EntryError when the header does not match what follows."""
    header = file.read(8)
    if len(header) < 8 or not header.startswith(LABELS_MAGIC):
        raise EntryError("it does not begin with the header of IDX labels")
    count = int.from_bytes(header[4:])
    if count > MAX_ENTRIES:
        raise EntryError(f"its header says {count} labels; at most {MAX_ENTRIES} are taken")
    labels = file.read(count)
    if len(labels) < count or file.read(1):
        raise EntryError(f"its header says {count} labels, but it holds {'fewer' if len(labels) < count else 'more'}")
    return labels


def _png(pixels: bytes, height: int, width: int) -> bytes:
    """8-bit grey as PNG, stored rather than deflated: the bytes, and so their hash, are those of any zlib anywhere."""
    rows = b"".join(b"\0" + pixels[start : start + width] for start in range(0, len(pixels), width))
    blocks = [rows[start : start + 0xFFFF] for start in range(0, len(rows), 0xFFFF)]
    stored = b"".join(
        struct.pack("<BHH", number == len(blocks), len(block), 0xFFFF - len(block)) + block
        for number, block in enumerate(blocks, 1)
    )
    data = b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(rows))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
