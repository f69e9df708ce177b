"""Parquet with a column of images, as Hugging Face's `datasets` writes it, read a few rows at a time.

The column is a struct of `bytes` and `path`, or plain bytes. The schema's `huggingface` metadata says which column it
is and what the numbers of a label column stand for; without it, both are known by type and name.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tamis.sources.columns import UNFIT, Tally, find_column, values_of
from tamis.sources.entries import (
    MAX_ENTRIES,
    MAX_ENTRY_BYTES,
    MAX_RATIO,
    MAX_UNSUSPECTED_BYTES,
    Entry,
    EntryError,
    Format,
    Picture,
    Reference,
    Refused,
    UnsuitedError,
)
from tamis.sources.labels import LABEL_COLUMNS, label_text
from tamis.sources.metadata import is_metadata
from tamis.sources.names import image_suffix, shown

MAGIC = b"PAR1"
DEFAULT_NAME = "images.parquet"
IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes", "data", "content")

# Pages are read one by one; of their rows, so many are taken as fill this many bytes.
BUFFER_BYTES = 2**20
NAMED = 10
BATCH_BYTES = 8 * 2**20
MAX_BATCH_ROWS = 256

_DAMAGE = (pa.ArrowException, OSError, ValueError, OverflowError, KeyError, IndexError, TypeError)


@dataclass(frozen=True)
class _Columns:
    """image: of bytes, or a struct with `fields`. names: what numbers in `label` stand for, if known. fault: why there
    is no `label` where there may be meant to be one."""

    image: str
    fields: tuple[str, ...]
    label: str | None
    names: tuple[object, ...]
    fault: str

    def read(self) -> list[str]:
        image = [f"{self.image}.{field}" for field in self.fields] or [self.image]
        return [*image, self.label] if self.label else image

    def text(self, label: object) -> str | None:
        """Raises EntryError as `label_text` does."""
        # Hugging Face writes -1 where a label is withheld, as in test splits.
        if self.names and label == -1:
            return None
        if isinstance(label, int) and 0 <= label < len(self.names):
            label = self.names[label]
        return label_text(label)


def holds(name: str) -> bool:
    return name.endswith(".parquet") and not is_metadata(name)


def count(entry: Entry) -> int | None:
    with _opened(entry) as parquet:
        return int(parquet.metadata.num_rows)


def read(entry: Entry, companions: Mapping[str, bytes]) -> Iterator[Picture | Reference | Refused]:
    """Refuses labels that are no single values, and says so where there are no rows."""
    tally, number = Tally(), -1
    with _opened(entry) as parquet:
        columns = _columns(parquet.schema_arrow)
        for number, (data, path, said) in enumerate(_rows(parquet, columns, entry.size or 0)):
            try:
                label = columns.text(said)
            except EntryError as error:
                tally.add(UNFIT, f"row {number + 1}, {error}")
                label = None
            yield _picture(entry.name, number, data, path, label)
    if columns.fault or number < 0:
        yield Refused(entry.name, columns.fault or "the table has no rows")
    yield from tally.told(entry.name, number + 1)


FORMAT = Format("Parquet", holds, lambda name: set(), lambda name: False, count, read)


@contextmanager
def _opened(entry: Entry) -> Iterator[pq.ParquetFile]:
    """Raises EntryError where the file is damaged, holds no images or is inside a compressed archive."""
    if not entry.seekable:
        raise EntryError("Parquet inside a compressed archive; unpack it, or send the file itself")
    with entry.open() as file:
        try:
            parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER_BYTES)
            _columns(parquet.schema_arrow)
        except _DAMAGE as error:
            raise _damaged(error, "its Parquet footer, at the end, is missing or damaged") from error
        if parquet.metadata.num_rows > MAX_ENTRIES:
            raise EntryError(f"its footer says {parquet.metadata.num_rows} rows; at most {MAX_ENTRIES} are taken")
        yield parquet


def _rows(parquet: pq.ParquetFile, columns: _Columns, file_size: int) -> Iterator[tuple[Any, Any, Any]]:
    """Bytes, path and label of each row."""
    try:
        for group in range(parquet.num_row_groups):
            about = parquet.metadata.row_group(group)
            size = about.total_byte_size
            if size > max(MAX_UNSUSPECTED_BYTES, MAX_RATIO * file_size):
                raise EntryError(f"row group {group} would expand more than {MAX_RATIO} times, to {size} bytes")
            rows = max(1, min(MAX_BATCH_ROWS, BATCH_BYTES * about.num_rows // max(size, 1)))
            for batch in parquet.iter_batches(rows, row_groups=[group], columns=columns.read(), use_threads=False):
                labels = values_of(batch[columns.label]) if columns.label else [None] * len(batch)
                for image, label in zip(batch[columns.image], labels, strict=True):
                    yield *_image(image.as_py()), label
    except _DAMAGE as error:
        raise _damaged(error, "its Parquet data is damaged") from error


def _image(image: Any) -> tuple[Any, Any]:
    return (image.get("bytes"), image.get("path")) if isinstance(image, dict) else (image, None)


def _damaged(error: Exception, what: str) -> Exception:
    """Arrow calls damage an OSError, but without the number that errors of the disk have; those are passed on."""
    return error if isinstance(error, OSError) and error.errno is not None else EntryError(what)


def _picture(table: str, number: int, data: Any, path: Any, label: str | None) -> Picture | Reference | Refused:
    name = f"{number:06}"
    if data is None and isinstance(path, str) and path:
        return Reference(path, label, number + 1)
    if data is None:
        return Refused(f"{table}/{name}", "the row has no image")
    if len(data) > MAX_ENTRY_BYTES:
        told = f"{len(data)} bytes are too many for one image; at most {MAX_ENTRY_BYTES} are taken"
        return Refused(f"{table}/{name}", told)
    return Picture(name + image_suffix(data), data, label)


def _columns(schema: pa.Schema) -> _Columns:
    """Raises EntryError when there is no column of images."""
    features = _features(schema)
    images = [name for name in schema.names if _is_image(schema, name)]
    marked = [name for name in images if _kind(features, name) == "Image"]
    named = [name for name in IMAGE_COLUMNS if name in images]
    structs = [name for name in images if pa.types.is_struct(schema.field(name).type)]
    choice = [*marked, *structs, *named, *images]
    if not choice:
        columns = ", ".join(f"{shown(field.name)} ({shown(str(field.type))[:60]})" for field in list(schema)[:NAMED])
        raise UnsuitedError(
            f"it has no column of images, neither bytes nor a struct of bytes and path; its columns are {columns}"
        )
    others = tuple(name for name in schema.names if name != choice[0])
    fault = ""
    label = next((name for name in others if _kind(features, name) == "ClassLabel" and others.count(name) == 1), None)
    try:
        label = label or find_column(others, LABEL_COLUMNS)
    except EntryError as error:
        fault = str(error)
    names = features.get(label, {}).get("names") if label else None
    fields = tuple(name for name in _fields(schema.field(choice[0]).type) if name in {"bytes", "path"})
    return _Columns(choice[0], fields, label, tuple(names) if isinstance(names, list) else (), fault)


def _is_image(schema: pa.Schema, name: str) -> bool:
    if schema.names.count(name) != 1:
        return False
    kind = schema.field(name).type
    return _is_binary(_fields(kind).get("bytes", kind))


def _fields(kind: pa.DataType) -> dict[str, pa.DataType]:
    """Of a struct; empty for any other type."""
    count = kind.num_fields if pa.types.is_struct(kind) else 0
    return {kind.field(place).name: kind.field(place).type for place in range(count)}


def _is_binary(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return kind in (pa.binary(), pa.large_binary(), pa.binary_view())


def _features(schema: pa.Schema) -> dict[Any, Any]:
    try:
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = described["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    items = features.items() if isinstance(features, dict) else ()
    return {name: about for name, about in items if isinstance(about, dict)}


def _kind(features: Mapping[Any, Any], name: str) -> Any:
    return features.get(name, {}).get("_type")
