"""Images as one array of pixels, found through a manifest or read from shards; in memory, or mapped where too many."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tamis.arrays import mapped
from tamis.encoders.spec import to_pixels
from tamis.errors import InputError
from tamis.ingest.images import decode
from tamis.ingest.linked import file_of
from tamis.ingest.shards import read_shard
from tamis.manifest import Manifest
from tamis.progress import Progress
from tamis.sources import RawSample, open_source
from tamis.sources.formats import format_of

Pixels: TypeAlias = npt.NDArray[np.uint8]
# Gives the place among the sample ids, and the file, of each image that it has.
Find: TypeAlias = Callable[[Sequence[str]], Iterable[tuple[int, bytes]]]

# More pixels than this many bytes go to a file, so that memory does not grow with the number of images.
MEMORY_LIMIT = 2**30
# Encoded images held at once while they are decoded.
WINDOW = 64
NAMED = 5
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
        if find is not None:
            found, hint = find(sample_ids), HINT
        elif images is not None:
            found = _members(images, {name: row for row, name in enumerate(sample_ids)})
            hint = f"Is {images} what the manifest was made of?"
        else:
            found = _located(table["uri"].to_pylist())
            hint = "Name the folder or archive the manifest was made of with --images."
        pixels = _buffer(len(sample_ids), size, folder, memory_limit)
        sha256 = table["sha256"].to_pylist()
        seen, altered = _fill(pixels, found, sha256, progress)
        _complain(sample_ids, np.flatnonzero(~seen).tolist(), altered, hint)
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
    _complain(names, [], altered, HINT)
    return names, pixels


def usable(manifest: Manifest) -> pa.Table:
    """The manifest's samples that can be decoded, whether kept or not: the rows of an ImageSet, in order."""
    return manifest.samples.filter(pc.not_equal(manifest.samples["reason"], "undecodable"))


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


def _complain(sample_ids: Sequence[str], missing: Sequence[int], altered: Sequence[int], hint: str) -> None:
    causes = [
        f"{len(rows)} {what}: " + ", ".join(sample_ids[row] for row in rows[:NAMED]) + ("..." * (len(rows) > NAMED))
        for rows, what in ((missing, "missing"), (altered, "altered or damaged"))
        if rows
    ]
    if causes:
        raise InputError(f"Of {len(sample_ids)} images {'; '.join(causes)}.", hint)


def _members(source: str | Path, wanted: dict[str, int], tail: bool = False) -> Iterator[tuple[int, bytes]]:
    """Row and content of each sample of a source that is wanted by name, or by the last two parts of its name."""
    left = {_last_two(name) if tail else name: row for name, row in wanted.items()}
    for sample in open_source(source):
        if not left:
            return
        if isinstance(sample, RawSample):
            row = left.pop(_last_two(sample.sample_id) if tail else sample.sample_id, None)
            if row is not None:
                yield row, sample.data


def _last_two(name: str) -> str:
    return "/".join(name.split("/")[-2:])


def _located(uris: Sequence[str]) -> Iterator[tuple[int, bytes]]:
    """Row and content of each image that its URI leads to; what it does not lead to is left out."""
    archives: dict[Path, dict[str, int]] = {}
    for row, uri in enumerate(uris):
        place, _, member = uri.partition("#")
        path = file_of(place)
        if path is not None and member:
            archives.setdefault(path, {})[unquote(member)] = row
        elif path is not None and path.is_file():
            yield row, path.read_bytes()
    for path, wanted in archives.items():
        if path.is_file():
            # A data set may hold files of many images in folders, whose names such a file opened alone does not know.
            yield from _members(path, wanted, tail=format_of(path.name) is not None)
