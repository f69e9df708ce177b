"""Images as one array of pixels, found through a manifest or read from shards; in memory, or mapped where too many."""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tamis.arrays import mapped
from tamis.encoders.spec import to_pixels
from tamis.errors import InputError
from tamis.images import decode
from tamis.ingest.located import Find, complain, finder
from tamis.ingest.shards import read_shard
from tamis.manifest import Manifest, usable
from tamis.progress import Progress

Pixels: TypeAlias = npt.NDArray[np.uint8]

# More pixels than this many bytes go to a file, so that memory does not grow with the number of images.
MEMORY_LIMIT = 2**30
# Encoded images held at once while they are decoded.
WINDOW = 64
HINT = "Ingest the data set again."


@dataclass(frozen=True)
class ImageSet:
    """pixels: (N, 3, S, S) uint8, an array or a memory map. sha256: N, of the files that they were decoded from."""

    pixels: Pixels
    sha256: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.sha256)

    @classmethod
    def from_shards(
        cls,
        shards: Iterable[tuple[Sequence[str], Pixels]],
        sha256: Sequence[str],
        size: int,
        folder: Path,
        *,
        memory_limit: int = MEMORY_LIMIT,
    ) -> "ImageSet":
        """All images of a data set's decoded shards, in order.

        shards: as of `decode_shard`. sha256: of the N images in all shards. size: S, the pixels of a side. folder:
        where pixels beyond memory_limit bytes go, in a file that vanishes with the ImageSet.
        Raises InputError when the shards hold another number of images.
        """
        pixels = _buffer(len(sha256), size, folder, memory_limit)
        count = 0
        for names, decoded in shards:
            first, count = count, count + len(names)
            if count > len(sha256):
                break
            pixels[first:count] = decoded
        if count != len(sha256):
            raise InputError(f"The shards do not hold {len(sha256)} images.", HINT)
        return cls(pixels, tuple(sha256))

    @classmethod
    def from_manifest(
        cls,
        manifest: Manifest,
        size: int,
        folder: Path,
        *,
        images: str | Path | None = None,
        find: Find | None = None,
        progress: Progress | None = None,
        memory_limit: int = MEMORY_LIMIT,
    ) -> "ImageSet":
        """The images of `usable(manifest)`, each checked against its sha256.

        find: who has the images. images: the folder or archive the manifest was made of. Without either the manifest's
        URIs say where each image is: `file:///...`, with a fragment for the member of an archive, which is read once
        and in order. progress(done, N) counts decoded images; the rest is as in `from_shards`.
        Raises InputError that names the first images which are missing or altered.
        """
        table = usable(manifest)
        sample_ids = table["sample_id"].to_pylist()
        hint = HINT
        if find is None:
            find, hint = finder(table["uri"].to_pylist(), images)
        found = find(sample_ids)
        pixels = _buffer(len(sample_ids), size, folder, memory_limit)
        sha256 = table["sha256"].to_pylist()
        seen, altered = _fill(pixels, found, sha256, progress)
        complain(sample_ids, np.flatnonzero(~seen).tolist(), altered, hint)
        return cls(pixels, tuple(sha256))


def decode_shard(content: bytes | Path, size: int, progress: Progress | None = None) -> tuple[list[str], Pixels]:
    """The ids of a shard's images, and their pixels, (n, 3, size, size) uint8. progress(done, n) counts them.

    Raises InputError that names the images which are altered or cannot be decoded.
    """
    table = read_shard(content)
    names = table["sample_id"].to_pylist()
    pixels = np.zeros((len(names), 3, size, size), np.uint8)
    found = ((row, data.as_py()) for row, data in enumerate(table["data"]))
    _, altered = _fill(pixels, found, table["sha256"].to_pylist(), progress)
    complain(names, [], altered, HINT)
    return names, pixels


def _buffer(count: int, size: int, folder: Path, memory_limit: int) -> Pixels:
    shape = (count, 3, size, size)
    if count * 3 * size * size <= memory_limit:
        return np.zeros(shape, np.uint8)
    with tempfile.TemporaryFile(dir=folder) as file:
        return mapped(file, folder, np.uint8, shape)


def _fill(
    pixels: Pixels, found: Iterable[tuple[int, bytes]], sha256: Sequence[str], progress: Progress | None
) -> tuple[npt.NDArray[np.bool_], list[int]]:
    """Decodes images into their rows, in threads (Pillow and hashlib release the lock); the rows seen, and altered."""
    seen = np.zeros(len(pixels), bool)
    altered: list[int] = []

    def intact(item: tuple[int, bytes]) -> bool:
        row, data = item
        if hashlib.sha256(data).hexdigest() != sha256[row]:
            return False
        try:
            pixels[row] = to_pixels(decode(data), pixels.shape[-1])
        except InputError:
            return False
        return True

    items = iter(found)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while window := list(islice(items, WINDOW)):
            rows = [row for row, _ in window]
            seen[rows] = True
            altered += [row for row, fine in zip(rows, pool.map(intact, window), strict=True) if not fine]
            if progress is not None:
                progress(int(seen.sum()), len(pixels))
    return seen, altered
