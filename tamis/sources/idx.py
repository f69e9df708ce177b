"""IDX, the format of the MNIST family: all images in one file, their labels in another, each gzipped or not.

The layout is LeCun's: a magic number, then one big-endian 32-bit length a dimension, then unsigned bytes.
"""

import io
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np

from tamis.images import MAX_PIXELS
from tamis.sources.entries import MAX_ENTRIES, Entry, EntryError, Format, Picture, Refused
from tamis.sources.gunzip import unzipped
from tamis.sources.pixels import picture

IMAGES_MAGIC = b"\x00\x00\x08\x03"
LABELS_MAGIC = b"\x00\x00\x08\x01"
DEFAULT_NAME = "images-idx3-ubyte"

_IMAGES = re.compile(r"(?:^|(?<=[^A-Za-z0-9]))images([-.])idx3-ubyte(?:\.gz)?$")
_LABELS = re.compile(r"(?:^|(?<=[^A-Za-z0-9]))labels[-.]idx1-ubyte(?:\.gz)?$")
_HEADER = struct.Struct(">4sIII")


def is_images(name: str) -> bool:
    return _IMAGES.search(name) is not None


def labels_names(name: str) -> set[str]:
    """What the labels of the images file `name` may be called; empty when it is not called like one."""
    labels = _IMAGES.sub(r"labels\1idx1-ubyte", name)
    return {labels, f"{labels}.gz"} if is_images(name) else set()


def count(entry: Entry) -> int | None:
    with _opened(entry) as file:
        return _shape(file, _plain_size(entry))[0]


def read(entry: Entry, companions: Mapping[str, bytes]) -> Iterator[Picture | Refused]:
    """Refuses labels that do not fit; raises EntryError if the header is none, or there are fewer or more images."""
    labels: bytes | None = None
    with _opened(entry) as file:
        images, height, width = _shape(file, _plain_size(entry))
        for name, content in sorted(companions.items()):
            try:
                labels = _labels(name, content, images)
            except EntryError as error:
                yield Refused(name, str(error))
        for number in range(images):
            pixels = file.read(height * width)
            if len(pixels) < height * width:
                raise EntryError(f"it ends after {number} of {images} images")
            image = np.frombuffer(pixels, np.uint8).reshape(height, width)
            yield picture(f"{number:06}.png", image, None if labels is None else str(labels[number]))
        if file.read(1):
            raise EntryError(f"it goes on after the {images} images its header says; those were kept")


FORMAT = Format("IDX", is_images, labels_names, lambda name: _LABELS.search(name) is not None, count, read)


def _shape(file: BinaryIO, size: int | None) -> tuple[int, int, int]:
    """Count, height and width from the header. Raises EntryError if it is none or contradicts `size`, the file's."""
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(IMAGES_MAGIC):
        raise EntryError("it does not begin with the header of IDX images")
    _, images, height, width = _HEADER.unpack(header)
    if not 0 < height * width <= MAX_PIXELS:
        raise EntryError(f"its header says images of {width} x {height} pixels")
    needed = _HEADER.size + images * height * width
    if size is not None and size != needed:
        raise EntryError(f"its header says {images} images of {width} x {height} pixels, {needed} bytes; it has {size}")
    return images, height, width


def _labels(name: str, content: bytes, images: int) -> bytes:
    """One byte a label. Raises EntryError when they are not as many as the header and the images say."""
    with unzipped(io.BytesIO(content), name.endswith(".gz"), len(content)) as file:
        header = file.read(8)
        if len(header) < 8 or not header.startswith(LABELS_MAGIC):
            raise EntryError("it does not begin with the header of IDX labels")
        claimed = int.from_bytes(header[4:])
        if claimed > MAX_ENTRIES:
            raise EntryError(f"its header says {claimed} labels; at most {MAX_ENTRIES} are taken")
        labels = file.read(claimed)
        if len(labels) < claimed or file.read(1):
            held = "fewer" if len(labels) < claimed else "more"
            raise EntryError(f"its header says {claimed} labels, but it holds {held}")
    if claimed != images:
        raise EntryError(f"it has {claimed} labels for {images} images; they are left out")
    return labels


@contextmanager
def _opened(entry: Entry) -> Iterator[BinaryIO]:
    with entry.open() as raw, unzipped(raw, entry.name.endswith(".gz"), entry.size) as file:
        yield file


def _plain_size(entry: Entry) -> int | None:
    return None if entry.name.endswith(".gz") else entry.size
