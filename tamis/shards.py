"""Ingest: a source becomes shards of verified image files, thumbnails, an index and a list of what was refused.

Shards are Parquet objects named after their content. Labels are in the index alone, so that no encoder meets them.
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tamis.errors import InputError
from tamis.images import decode, thumbnail
from tamis.sources import RawSample, Refused, Source

SHARD_SAMPLES = 1024
SHARD_BYTES = 32 * 2**20

SHARD_SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("data", pa.binary(), nullable=False),
    ]
)
INDEX_SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("thumbnail_offset", pa.int64(), nullable=False),
        pa.field("thumbnail_length", pa.int32(), nullable=False),
    ]
)
QUARANTINE_SCHEMA = pa.schema(
    [pa.field("name", pa.string(), nullable=False), pa.field("reason", pa.string(), nullable=False)]
)

# What a thread takes at a time: small images are checked faster than they are handed over one by one.
_BATCH_SAMPLES = 16
_BATCH_BYTES = 2 * 2**20
_MAX_THREADS = 8


@dataclass(frozen=True)
class ShardRef:
    """Where the samples `first` to `first + count - 1` are: the keys of their images and of their thumbnails."""

    key: str
    thumbnails: str
    first: int
    count: int


@dataclass(frozen=True)
class Ingested:
    """What a source came to.

    index: INDEX_SCHEMA, a row a sample, in the source's order; `label` is null throughout unless two labels occur.
    quarantine: QUARANTINE_SCHEMA, in the source's order.
    fingerprint: SHA-256 over the ids and hashes of the samples in order.
    bytes: of the image files in the shards.
    """

    index: pa.Table
    quarantine: pa.Table
    shards: tuple[ShardRef, ...]
    fingerprint: str
    bytes: int


@dataclass(frozen=True)
class _Image:
    sample: RawSample
    sha256: str
    width: int
    height: int
    thumbnail: bytes


def ingest(
    source: Source, put: Callable[[str, bytes], object], progress: Callable[[int, int], None] | None = None
) -> Ingested:
    """Checks every image by decoding it, and stores what is fine. Equal sources give equal keys, bytes and tables.

    put: stores an object under a key; it is called again with the same two when an ingest is repeated.
    progress: called after every sample with how many are done and of how many, 0 if unknown.
    Memory is bounded by one shard, but for the rows of the index. Raises InputError when no image can be used, and
    what the source raises.
    """
    total = source.total or 0
    refused: list[Refused] = []
    shards: list[ShardRef] = []
    rows: list[pa.Table] = []
    fingerprint = hashlib.sha256()
    first = 0
    for images in _shards(_counted(_checked(source), total, progress), refused):
        shards.append(_store(images, first, put))
        rows.append(_index_rows(images, len(rows)))
        for image in images:
            fingerprint.update(f"{image.sample.sample_id}\0{image.sha256}\n".encode())
        first += len(images)
    if not shards:
        raise InputError(_nothing_usable(refused), "Send PNG, JPEG, WebP, GIF, BMP, TIFF or PPM files.")
    index = _without_single_label(pa.concat_tables(rows).combine_chunks())
    return Ingested(
        index=index,
        quarantine=pa.table(
            [[entry.name for entry in refused], [entry.reason for entry in refused]], schema=QUARANTINE_SCHEMA
        ),
        shards=tuple(shards),
        fingerprint=fingerprint.hexdigest(),
        bytes=pc.sum(index["size"]).as_py(),
    )


def read_shard(content: bytes | Path) -> pa.Table:
    """The samples of a shard object: SHARD_SCHEMA. Raises InputError when it is none."""
    try:
        return (
            pq.ParquetFile(content if isinstance(content, Path) else pa.BufferReader(content)).read().cast(SHARD_SCHEMA)
        )
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"This is not a shard of images ({error}).", "Ingest the data set again.") from error


def _checked(source: Iterable[RawSample | Refused]) -> Iterator[_Image | Refused]:
    """The samples in their order, checked in threads: Pillow and hashlib let others run while they work."""
    waiting: deque[tuple[int, Future[list[_Image | Refused]]]] = deque()
    held = 0
    threads = min(os.cpu_count() or 1, _MAX_THREADS)
    with ThreadPoolExecutor(threads, "ingest") as pool:
        for size, batch in _batches(source):
            waiting.append((size, pool.submit(_check_all, batch)))
            held += size
            while len(waiting) > 2 * threads or held > SHARD_BYTES:
                size, checked = waiting.popleft()
                held -= size
                yield from checked.result()
        while waiting:
            yield from waiting.popleft()[1].result()


def _batches(source: Iterable[RawSample | Refused]) -> Iterator[tuple[int, list[RawSample | Refused]]]:
    """Samples by the batch, each with its bytes."""
    batch: list[RawSample | Refused] = []
    size = 0
    for sample in source:
        batch.append(sample)
        size += len(sample.data) if isinstance(sample, RawSample) else 0
        if len(batch) == _BATCH_SAMPLES or size >= _BATCH_BYTES:
            yield size, batch
            batch, size = [], 0
    yield size, batch


def _check_all(batch: Sequence[RawSample | Refused]) -> list[_Image | Refused]:
    return [_check(sample) for sample in batch]


def _check(sample: RawSample | Refused) -> _Image | Refused:
    if isinstance(sample, Refused):
        return sample
    try:
        image = decode(sample.data)
    except InputError as error:
        return Refused(sample.sample_id, error.message)
    return _Image(sample, hashlib.sha256(sample.data).hexdigest(), image.width, image.height, thumbnail(image))


def _counted(
    results: Iterable[_Image | Refused], total: int, progress: Callable[[int, int], None] | None
) -> Iterator[_Image | Refused]:
    for done, result in enumerate(results, 1):
        yield result
        if progress is not None:
            progress(done, total)


def _shards(results: Iterable[_Image | Refused], refused: list[Refused]) -> Iterator[list[_Image]]:
    """Images by the shard; what was refused is added to `refused`."""
    images: list[_Image] = []
    size = 0
    for result in results:
        if isinstance(result, Refused):
            refused.append(result)
            continue
        images.append(result)
        size += len(result.sample.data)
        if len(images) == SHARD_SAMPLES or size >= SHARD_BYTES:
            yield images
            images, size = [], 0
    if images:
        yield images


def _store(images: Sequence[_Image], first: int, put: Callable[[str, bytes], object]) -> ShardRef:
    table = pa.table(
        [
            [image.sample.sample_id for image in images],
            [image.sha256 for image in images],
            [image.width for image in images],
            [image.height for image in images],
            [image.sample.data for image in images],
        ],
        schema=SHARD_SCHEMA,
    )
    sink = pa.BufferOutputStream()
    # Image files are compressed already, and no two are the same.
    pq.write_table(table, sink, compression="none", use_dictionary=False, write_statistics=False)
    return ShardRef(
        key=_put("shards/{}.parquet", sink.getvalue().to_pybytes(), put),
        thumbnails=_put("thumbnails/{}.bin", b"".join(image.thumbnail for image in images), put),
        first=first,
        count=len(images),
    )


def _put(key: str, content: bytes, put: Callable[[str, bytes], object]) -> str:
    key = key.format(hashlib.sha256(content).hexdigest())
    put(key, content)
    return key


def _index_rows(images: Sequence[_Image], shard: int) -> pa.Table:
    lengths = [len(image.thumbnail) for image in images]
    columns = {
        "sample_id": [image.sample.sample_id for image in images],
        "sha256": [image.sha256 for image in images],
        "uri": [image.sample.uri for image in images],
        "width": [image.width for image in images],
        "height": [image.height for image in images],
        "label": [image.sample.label for image in images],
        "size": [len(image.sample.data) for image in images],
        "shard": [shard] * len(images),
        "row": list(range(len(images))),
        "thumbnail_offset": [0, *accumulate(lengths[:-1])],
        "thumbnail_length": lengths,
    }
    return pa.table(columns, schema=INDEX_SCHEMA)


def _without_single_label(index: pa.Table) -> pa.Table:
    """One label for everything says nothing: it is the name of the folder that holds all images."""
    if pc.count_distinct(index["label"], mode="only_valid").as_py() >= 2:
        return index
    place = INDEX_SCHEMA.get_field_index("label")
    return index.set_column(place, INDEX_SCHEMA.field(place), pa.nulls(index.num_rows, pa.string()))


def _nothing_usable(refused: Sequence[Refused]) -> str:
    if not refused:
        return "There is no image in it."
    first = refused[0]
    return f"None of its {len(refused)} files could be used as an image; the first, {first.name}: {first.reason}."
