"""Ingest: a source becomes shards of verified image files, thumbnails, an index and a list of what was refused.

Shards are Parquet objects named after their content. Labels are in the index alone, so that no encoder meets them.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tamis.errors import InputError
from tamis.images import THUMBNAIL_SIZES
from tamis.ingest.checking import Checked, CheckedImage, checked
from tamis.ingest.linked import LINKED_SCHEMA, followed, is_linked, linked
from tamis.progress import Progress
from tamis.sources import Refused, Source

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
        *(
            pa.field(f"thumbnail_{side}_{part}", kind, nullable=False)
            for side in THUMBNAIL_SIZES
            for part, kind in (("offset", pa.int64()), ("length", pa.int32()))
        ),
    ]
)
QUARANTINE_SCHEMA = pa.schema(
    [pa.field("name", pa.string(), nullable=False), pa.field("reason", pa.string(), nullable=False)]
)


@dataclass(frozen=True)
class ShardRef:
    """Where the samples `first` to `first + count - 1` are: the keys of their images and of their thumbnails."""

    key: str
    thumbnails: str
    first: int
    count: int

    @property
    def name(self) -> str:
        """The hash in its key."""
        return self.key.rsplit("/", 1)[1].removesuffix(".parquet")


@dataclass(frozen=True)
class Ingested:
    """What a source came to.

    index: INDEX_SCHEMA, a row a sample, in the source's order; `label` is null throughout unless two labels occur. It
        is a memory map of a temporary file.
    quarantine: QUARANTINE_SCHEMA, in the source's order.
    fingerprint: SHA-256 over the ids and hashes of the samples in order.
    bytes: of the image files in the shards.
    """

    index: pa.Table
    quarantine: pa.Table
    shards: tuple[ShardRef, ...]
    fingerprint: str
    bytes: int


def ingest(
    source: Source,
    put: Callable[[str, bytes], object],
    progress: Progress | None = None,
    *,
    in_place: bool = False,
    folder: Path | None = None,
) -> Ingested:
    """Checks every image by decoding it, and stores what is fine. Equal sources give equal keys, bytes and tables.

    put: stores an object under a key; it is called again with the same two when an ingest is repeated.
    progress: called after some samples each time, with how many are done and of how many, 0 if unknown.
    in_place: shards name the images that are files of their own instead of holding them, and there are no thumbnails.
    folder: for what is written and removed again; the system's temporary one if None.
    Memory is bounded by one shard, but for the names that a source remembers: the index is in a file. Raises InputError
    when no image can be used, and what the source raises.
    """
    refused: list[Refused] = []
    shards: list[ShardRef] = []
    labels: set[str] = set()
    fingerprint = hashlib.sha256()
    first = size = 0
    with _Rows(folder) as rows:
        batches = _counted(checked(source, thumbnails=not in_place), source.total or 0, progress)
        for images in _shards(batches, refused):
            samples = _samples(images)
            shard = linked(samples, [image.sample.uri for image in images]) if in_place else samples
            thumbnails, places = _thumbnails(images, none=in_place)
            shards.append(
                ShardRef(
                    key=_put("shards/{}.parquet", _shard(shard), put),
                    thumbnails=_put("thumbnails/{}.bin", thumbnails, put),
                    first=first,
                    count=len(images),
                )
            )
            rows.write(_index_rows(samples, images, len(shards) - 1, places))
            fingerprint.update("".join(f"{image.sample.sample_id}\0{image.sha256}\n" for image in images).encode())
            first += len(images)
            size += sum(len(image.sample.data) for image in images)
            if len(labels) < 2:
                labels.update(image.sample.label for image in images if image.sample.label is not None)
        if not shards:
            raise InputError(_nothing_usable(refused), "Send PNG, JPEG, WebP, GIF, BMP, TIFF or PPM files.")
        index = rows.table()
    return Ingested(
        # One label for everything says nothing: it is the name of the folder that holds all images.
        index=index if len(labels) >= 2 else _without_labels(index),
        quarantine=pa.table(
            [[entry.name for entry in refused], [entry.reason for entry in refused]], schema=QUARANTINE_SCHEMA
        ),
        shards=tuple(shards),
        fingerprint=fingerprint.hexdigest(),
        bytes=size,
    )


def images_in(shards: Iterable[bytes | Path], sample_ids: Sequence[str]) -> Iterator[tuple[int, bytes]]:
    """Place among `sample_ids` and file of each of these samples, shard by shard. Raises as `read_shard`."""
    place_of = {name: place for place, name in enumerate(sample_ids)}
    for shard in shards:
        images = read_shard(shard)
        for name, data in zip(images["sample_id"].to_pylist(), images["data"], strict=True):
            if name in place_of:
                yield place_of[name], data.as_py()


def read_shard(content: bytes | Path, rows: npt.NDArray[np.int64] | None = None) -> pa.Table:
    """The samples of a shard object, or those of `rows` alone: SHARD_SCHEMA.

    Raises InputError when it is none, and where an image that stayed in its place is gone or has changed.
    """
    try:
        table = pq.ParquetFile(content if isinstance(content, Path) else pa.BufferReader(content)).read()
        table = table if rows is None else table.take(pa.array(rows))
        table = table.cast(LINKED_SCHEMA if is_linked(table) else SHARD_SCHEMA)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"This is not a shard of images ({error}).", "Ingest the data set again.") from error
    return followed(table).cast(SHARD_SCHEMA) if is_linked(table) else table


def pick_images(
    shards: Iterable[ShardRef], read: Callable[[str], bytes | Path], rows: npt.NDArray[np.int64]
) -> tuple[list[bytes], list[str]]:
    """Files and ids of the samples `rows`, ascending numbers; only shards that hold one of them are read.

    read: gives the shard object of a key, or a file of it.
    """
    files: list[bytes] = []
    names: list[str] = []
    for shard in shards:
        inside = rows[(shard.first <= rows) & (rows < shard.first + shard.count)] - shard.first
        if len(inside):
            found = read_shard(read(shard.key), inside)
            files += found["data"].to_pylist()
            names += found["sample_id"].to_pylist()
    return files, names


def _counted(batches: Iterable[Checked], total: int, progress: Progress | None) -> Iterator[Checked]:
    done = 0
    for batch in batches:
        yield batch
        done += len(batch.images) + len(batch.refused)
        if progress is not None:
            progress(done, total)


def _shards(batches: Iterable[Checked], refused: list[Refused]) -> Iterator[list[CheckedImage]]:
    """Images by the shard; what was refused is added to `refused`."""
    images: list[CheckedImage] = []
    size = 0
    for batch in batches:
        refused += batch.refused
        for image in batch.images:
            images.append(image)
            size += len(image.sample.data)
            if len(images) == SHARD_SAMPLES or size >= SHARD_BYTES:
                yield images
                images, size = [], 0
    if images:
        yield images


def _samples(images: Sequence[CheckedImage]) -> pa.Table:
    columns = [
        [image.sample.sample_id for image in images],
        [image.sha256 for image in images],
        [image.facts.width for image in images],
        [image.facts.height for image in images],
        [image.sample.data for image in images],
    ]
    return pa.table(columns, schema=SHARD_SCHEMA)


def _shard(samples: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    # Image files are compressed already, and no two are the same.
    pq.write_table(samples, sink, compression="none", use_dictionary=False, write_statistics=False)
    return bytes(sink.getvalue())


def _thumbnails(images: Sequence[CheckedImage], *, none: bool) -> tuple[bytes, dict[str, list[int]]]:
    """One object of all thumbnails, equal ones once, and where in it they are: columns of the index.

    none: whether there are to be no thumbnails; then the object is empty.
    """
    places: dict[bytes, int] = {}
    end = 0
    columns: dict[str, list[int]] = {}
    for number, side in enumerate(THUMBNAIL_SIZES):
        offsets = columns[f"thumbnail_{side}_offset"] = []
        lengths = columns[f"thumbnail_{side}_length"] = []
        for image in images:
            content = b"" if none else image.facts.thumbnails[number] or image.sample.data
            offset = places.setdefault(content, end)
            if offset == end:
                end += len(content)
            offsets.append(offset)
            lengths.append(len(content))
    return b"".join(places), columns


def _put(key: str, content: bytes, put: Callable[[str, bytes], object]) -> str:
    key = key.format(hashlib.sha256(content).hexdigest())
    put(key, content)
    return key


def _index_rows(
    samples: pa.Table, images: Sequence[CheckedImage], shard: int, thumbnails: dict[str, list[int]]
) -> pa.Table:
    columns = {
        **{name: samples[name] for name in ("sample_id", "sha256", "width", "height")},
        "uri": [image.sample.uri for image in images],
        "label": [image.sample.label for image in images],
        "size": pc.binary_length(samples["data"]),
        "shard": np.full(len(images), shard),
        "row": np.arange(len(images)),
        **thumbnails,
    }
    return pa.table([columns[name] for name in INDEX_SCHEMA.names], schema=INDEX_SCHEMA)


class _Rows:
    """The rows of the index, in a temporary file until all are known, so that they take no memory."""

    def __init__(self, folder: Path | None) -> None:
        self._parent = folder

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="tamis-", dir=self._parent)
        self._path = Path(self._folder.name) / "index.arrow"
        self._writer = pa.ipc.new_file(self._path, INDEX_SCHEMA)
        return self

    def write(self, rows: pa.Table) -> None:
        self._writer.write_table(rows)

    def table(self) -> pa.Table:
        """Memory-mapped: the file goes when the table does."""
        self._writer.close()
        return pa.ipc.open_file(pa.memory_map(str(self._path))).read_all()

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self._folder.cleanup()


def _without_labels(index: pa.Table) -> pa.Table:
    place = INDEX_SCHEMA.get_field_index("label")
    return index.set_column(place, INDEX_SCHEMA.field(place), pa.nulls(index.num_rows, pa.string()))


def _nothing_usable(refused: Sequence[Refused]) -> str:
    if not refused:
        return "There is no image in it."
    first = refused[0]
    return f"None of its {len(refused)} files could be used as an image; the first, {first.name}: {first.reason}."
