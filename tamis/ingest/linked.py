"""Shards of images that stay where they are: each names its files instead of holding them."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import pyarrow as pa

from tamis.errors import InputError

LINKED_SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("data", pa.binary()),
        pa.field("uri", pa.string()),
    ]
)
HINT = "Start again with what is there."


def linked(samples: pa.Table, uris: Sequence[str]) -> pa.Table:
    """A shard's table with a column `uri`, and `data` null where that names a file; other images stay in the shard."""
    places = [uri if file_of(uri) is not None else None for uri in uris]
    held = [None if place else data for place, data in zip(places, samples["data"].to_pylist(), strict=True)]
    columns = {**{name: samples[name] for name in samples.column_names}, "data": held, "uri": places}
    return pa.table(columns, schema=LINKED_SCHEMA)


def is_linked(table: pa.Table) -> bool:
    return "uri" in table.column_names


def followed(table: pa.Table) -> pa.Table:
    """A linked shard's table with all data. Raises InputError where an image is gone, or is not what it was."""
    columns = (table[name].to_pylist() for name in ("sample_id", "sha256", "data", "uri"))
    rows = zip(*columns, strict=True)
    held = [_unchanged(name, digest, uri) if data is None else data for name, digest, data, uri in rows]
    at = table.column_names.index("data")
    return table.set_column(at, "data", pa.array(held, pa.binary())).drop_columns(["uri"])


def file_of(uri: str) -> Path | None:
    """The file that a `file:` URI names; None for other URIs, and for what is inside a file."""
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.fragment:
        return None
    return Path(os.fsdecode(unquote_to_bytes(parts.path)))


def _unchanged(name: str, digest: str, uri: str) -> bytes:
    path = file_of(uri)
    assert path is not None, "only files are linked to"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{name} cannot be read any more: {error.strerror}.", HINT) from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise InputError(f"{name} has changed since it was read.", HINT)
    return content
