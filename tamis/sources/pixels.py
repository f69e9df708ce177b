"""Raw pixels as image files: PNG, stored rather than deflated, so that the bytes are those of any zlib anywhere."""

import struct
import zlib

import numpy as np
import numpy.typing as npt

from tamis.sources.entries import Picture

_GREY, _RGB = 0, 2


def picture(name: str, pixels: npt.NDArray[np.uint8], label: str | None) -> Picture:
    height, width = pixels.shape[:2]
    return Picture(name, png(pixels), label, (width, height))


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """(height, width) grey or (height, width, 3) RGB pixels as a PNG file; equal pixels give equal bytes, for ever."""
    height, width = pixels.shape[:2]
    lines = pixels.reshape(height, -1)
    # Every row begins with the number of its filter, 0 for none.
    filtered = np.zeros((height, lines.shape[1] + 1), np.uint8)
    filtered[:, 1:] = lines
    rows = filtered.tobytes()
    blocks = [rows[start : start + 0xFFFF] for start in range(0, len(rows), 0xFFFF)]
    stored = b"".join(
        struct.pack("<BHH", number == len(blocks), len(block), 0xFFFF - len(block)) + block
        for number, block in enumerate(blocks, 1)
    )
    data = b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(rows))
    header = struct.pack(">IIBBBBB", width, height, 8, _GREY if pixels.ndim == 2 else _RGB, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
