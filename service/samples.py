"""A data set's samples, thumbnails and quarantine, read from the index that its ingest wrote."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa

from service.backend import Backend
from service.cursors import read_cursor, write_cursor
from tamis.errors import ConflictError, NotFoundError
from tamis.images import decode
from tamis.ingest.shards import images_in
from tamis.store.schema import Dataset, Shard

COLUMNS = "file_row_number AS index, sample_id, sha256, width, height, label, size"
SOURCE = "read_parquet($file, file_row_number = true)"
PAGE = "WHERE file_row_number >= $first ORDER BY file_row_number LIMIT $limit"
SAMPLES = f"SELECT {COLUMNS} FROM {SOURCE} {PAGE}"
SAMPLE = f"SELECT {COLUMNS} FROM {SOURCE} WHERE file_row_number = $number"
SPREAD = f"SELECT {COLUMNS} FROM {SOURCE} WHERE list_contains($numbers, file_row_number) ORDER BY file_row_number"
THUMBNAIL = (
    "SELECT shard, thumbnail_{side}_offset AS offset, thumbnail_{side}_length AS length "
    f"FROM {SOURCE} WHERE file_row_number = $number"
)
# What tamis.images leaves among the thumbnails.
MEDIA_TYPES = {b"RIFF": "image/webp", b"\x89PNG": "image/png", b"\xff\xd8": "image/jpeg"}
IMAGE = f"SELECT shard, row, sha256 FROM {SOURCE} WHERE file_row_number = $number"
SUMMARY = (
    "SELECT count(*) - count(DISTINCT sha256) AS equal_files, count(DISTINCT label) AS labels, "
    "arg_min(width, width * height) AS smallest_width, arg_min(height, width * height) AS smallest_height, "
    "arg_max(width, width * height) AS largest_width, arg_max(height, width * height) AS largest_height "
    f"FROM {SOURCE}"
)
QUARANTINE = f"SELECT name, reason FROM {SOURCE} {PAGE}"


@dataclass(frozen=True)
class Stored:
    """What an ingest left."""

    id: str
    samples: int
    quarantined: int
    index_key: str
    quarantine_key: str


def samples_page(backend: Backend, dataset_id: str, *, cursor: str | None = None, limit: int = 100) -> dict[str, Any]:
    """One page as {items, total, next}. Raises ConflictError before the ingest has succeeded, as all here do."""
    stored = _stored(backend, dataset_id)
    return _page(backend, SAMPLES, stored.index_key, stored.samples, cursor, limit)


def quarantine_page(
    backend: Backend, dataset_id: str, *, cursor: str | None = None, limit: int = 100
) -> dict[str, Any]:
    """One page of what was refused, and why."""
    stored = _stored(backend, dataset_id)
    return _page(backend, QUARANTINE, stored.quarantine_key, stored.quarantined, cursor, limit)


def sample_count(backend: Backend, dataset_id: str) -> int:
    return _stored(backend, dataset_id).samples


def sample_names(backend: Backend, dataset_id: str) -> list[str]:
    """The ids of all samples, in their order."""
    return _names(backend, _stored(backend, dataset_id).index_key, "sample_id")


def left_out_names(backend: Backend, dataset_id: str) -> list[str]:
    """The names of all files in quarantine."""
    return _names(backend, _stored(backend, dataset_id).quarantine_key, "name")


def _names(backend: Backend, key: str, column: str) -> list[str]:
    names: list[str] = pq.read_table(backend.tables.local(key), columns=[column])[column].to_pylist()
    return names


def one_sample(backend: Backend, dataset_id: str, number: int) -> dict[str, Any]:
    return _row(backend, _stored(backend, dataset_id), SAMPLE, number)


def summary(backend: Backend, dataset_id: str) -> dict[str, Any]:
    """How many files equal an earlier one, how many labels there are, and the sides of the smallest and largest."""
    return backend.tables.summary(SUMMARY, _stored(backend, dataset_id).index_key)


def spread_samples(backend: Backend, dataset_id: str, count: int) -> list[dict[str, Any]]:
    """At most `count` samples at even distances, because a data set's beginning is often one class alone."""
    stored = _stored(backend, dataset_id)
    numbers = sorted({place * stored.samples // count for place in range(count)}) if stored.samples else []
    return backend.tables.query(SPREAD, {"file": str(backend.tables.local(stored.index_key)), "numbers": numbers})


@dataclass(frozen=True)
class Thumbnail:
    """Where one is: a part of an object whose key tells its content."""

    key: str
    offset: int
    length: int

    @property
    def etag(self) -> str:
        return f'"{self.key.rsplit("/", 1)[-1].removesuffix(".bin")}-{self.offset}-{self.length}"'

    def read(self, backend: Backend) -> tuple[bytes, str]:
        """The file and its media type: WebP, or of a small image the file that was sent, if browsers show it."""
        content = backend.objects.get_range(self.key, self.offset, self.length)
        return content, next(kind for magic, kind in MEDIA_TYPES.items() if content.startswith(magic))


def find_thumbnail(backend: Backend, dataset_id: str, number: int, side: int) -> Thumbnail:
    """side: one of THUMBNAIL_SIZES, into which it fits."""
    row = _row(backend, _stored(backend, dataset_id), THUMBNAIL.replace("{side}", str(side)), number)
    key = _of_shard(backend, dataset_id, row["shard"], Shard.thumbnails_key)
    return Thumbnail(key, row["offset"], row["length"])


@dataclass(frozen=True)
class FullImage:
    """Where one is: a row of a shard."""

    key: str
    row: int
    sha256: str

    @property
    def etag(self) -> str:
        return f'"{self.sha256}"'

    def read(self, backend: Backend) -> tuple[bytes, str]:
        """The file as it was sent and its media type; as a PNG, where browsers do not show its format."""
        path = backend.objects.local_path(self.key)
        shard = pq.ParquetFile(io.BytesIO(backend.objects.get(self.key)) if path is None else path)
        content: bytes = shard.read(["data"])["data"][self.row].as_py()
        media_type = next((kind for magic, kind in MEDIA_TYPES.items() if content.startswith(magic)), None)
        if media_type is not None:
            return content, media_type
        sink = io.BytesIO()
        decode(content).save(sink, "png")
        return sink.getvalue(), "image/png"


def find_image(backend: Backend, dataset_id: str, number: int) -> FullImage:
    row = _row(backend, _stored(backend, dataset_id), IMAGE, number)
    return FullImage(_of_shard(backend, dataset_id, row["shard"], Shard.key), row["row"], row["sha256"])


def images_of(backend: Backend, dataset_id: str, sample_ids: Sequence[str]) -> Iterator[tuple[int, bytes]]:
    """Place and file of each of the samples, shard by shard of those that hold any."""
    path = backend.tables.local(_stored(backend, dataset_id).index_key)
    index = pq.read_table(path, columns=["sample_id", "shard"])
    held = pc.is_in(index["sample_id"], value_set=pa.array(sample_ids, pa.string()))
    ordinals = pc.unique(index["shard"].filter(held)).to_pylist()
    keys = (_of_shard(backend, dataset_id, ordinal, Shard.key) for ordinal in ordinals)
    return images_in(map(backend.objects.get, keys), sample_ids)


def _of_shard(backend: Backend, dataset_id: str, ordinal: int, column: "sa.orm.InstrumentedAttribute[str]") -> str:
    """One of the keys of a shard."""
    query = sa.select(column).where(Shard.dataset_id == dataset_id, Shard.ordinal == ordinal)
    with backend.catalog.reading() as session:
        key = session.scalar(query)
    if key is None:
        raise NotFoundError(f"Data set {dataset_id} has no shard {ordinal}.")
    return key


def _page(backend: Backend, sql: str, key: str, total: int, cursor: str | None, limit: int) -> dict[str, Any]:
    first = read_cursor(cursor)
    items = backend.tables.query(sql, {"file": str(backend.tables.local(key)), "first": first, "limit": limit})
    return {"items": items, "total": total, "next": write_cursor(first + limit) if first + limit < total else None}


def _row(backend: Backend, stored: Stored, sql: str, number: int) -> dict[str, Any]:
    rows = backend.tables.query(sql, {"file": str(backend.tables.local(stored.index_key)), "number": number})
    if not rows:
        raise NotFoundError(f"Data set {stored.id} has no sample {number}.", f"It has {stored.samples}, from 0 on.")
    return rows[0]


def _stored(backend: Backend, dataset_id: str) -> Stored:
    with backend.catalog.reading() as session:
        row = session.get(Dataset, dataset_id)
        if row is None:
            raise NotFoundError(f"There is no dataset {dataset_id}.", "GET /api/v1/datasets lists them.")
        if row.index_key is None or row.quarantine_key is None:
            raise ConflictError(f"Data set {dataset_id} is {row.state}.", "Wait until its ingest succeeded.")
        return Stored(row.id, row.samples, row.quarantined, row.index_key, row.quarantine_key)
