"""Embeddings a user brings instead of an encoder."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tamis.errors import InputError

Floats = npt.NDArray[np.floating[Any]]

# Text columns of a Parquet file that say which sample a row is of; the first of these that is there.
NAME_COLUMNS = ("sample_id", "path", "file_name")
HINT = (
    "Give an (N, d) float array as .npy, or a Parquet file with one list column or d columns of floats, and a column "
    "sample_id or path if you like."
)
ORDER = (
    "Give one row an image: in a Parquet file with a column sample_id or path; or in the order of the samples, which "
    "for a folder is that of ImageFolder and of sorted(Path(folder).rglob('*'))."
)
Listed: TypeAlias = Callable[[], Sequence[str]]
NAMED = 5
BLOCK = 4096


@dataclass(frozen=True)
class Brought:
    """rows: (N, d) floats. names: of the sample that each row is of, where the file says it."""

    rows: Floats
    names: Sequence[str] | None = None


def load_embeddings(path: Path) -> Brought:
    """Embeddings from .npy (mapped, not read) or Parquet, told apart by their content.

    A Parquet file has one column of equally long lists of floats or of equal tensors, or else float columns only; and,
    of NAME_COLUMNS, one that names the samples. Raises InputError for other files, pickled objects, other shapes and
    types, nulls and ragged rows.
    """
    names = None
    try:
        with path.open("rb") as file:
            magic = file.read(6)
        if magic == b"\x93NUMPY":
            array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        elif magic[:4] == b"PAR1":
            names, table = _named(pq.read_table(path))
            array = _matrix(table)
        else:
            raise ValueError("it is neither .npy nor Parquet")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}.", HINT) from error
    except (ValueError, pa.ArrowException) as error:
        raise InputError(f"{path} does not hold embeddings: {error}.", HINT) from error
    if array.ndim != 2 or array.shape[1] == 0 or array.dtype.kind != "f":
        raise InputError(f"{path} holds {array.dtype} of shape {array.shape}.", HINT)
    return Brought(array, names)


def in_order(brought: Brought, count: int, listed: Listed, left_out: Listed, file: str) -> Floats:
    """A row for each sample, in their order: matched by name where the file has names, else as they are.

    A path may begin above the data set's folder. count, listed: the number of samples, and what gives their names.
    left_out: gives those of the files of the data set that are no samples, whose rows are passed over.
    Raises InputError that names what is missing and what is left over.
    """
    if brought.names is None:
        if len(brought.rows) != count:
            out = left_out()
            raise InputError(
                f"{file} has {len(brought.rows):,} rows and the data set {count:,} images"
                + (f"; left out were {_listed(out)}." if out else "."),
                ORDER,
            )
        return brought.rows
    samples = listed()
    number = {name: place for place, name in enumerate(samples)}
    rows = np.full(len(samples), -1)
    twice, unknown = [], []
    for row, name in enumerate(brought.names):
        place = next((number[tail] for tail in _tails(name) if tail in number), None)
        if place is None:
            unknown.append(name)
        elif rows[place] >= 0:
            twice.append(name)
        else:
            rows[place] = row
    missing = [samples[place] for place in np.flatnonzero(rows < 0).tolist()]
    if unknown:
        passed = set(left_out())
        unknown = [name for name in unknown if not any(tail in passed for tail in _tails(name))]
    wrong = {"without a row": missing, "in it that name no sample": unknown, "in it more than once": twice}
    told = [f"{_listed(names)} {what}" for what, names in wrong.items() if names]
    if told:
        raise InputError(f"{file} does not fit the data set: {'; '.join(told)}.", "Give each sample one row.")
    return np.asarray(brought.rows[rows])


def embeddings_digest(rows: Floats) -> str:
    """SHA-256 of the numbers, whatever file, type and order of bytes they came in: of each block as float32 where that
    holds it exactly, else as float64."""
    digest = hashlib.sha256(str(rows.shape).encode())
    for start in range(0, len(rows), BLOCK):
        block = np.asarray(rows[start : start + BLOCK], np.float64)
        with np.errstate(over="ignore"):
            single = block.astype("<f4")
        exact = np.array_equal(single, block, equal_nan=True)
        digest.update((single if exact else block.astype("<f8")).tobytes())
    return digest.hexdigest()


def _listed(names: Sequence[str]) -> str:
    """Such as "2 (a.png, b.png)"."""
    return f"{len(names):,} ({', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''})"


def _tails(path: str) -> Iterator[str]:
    """A path, and what is left of it as its first folders are taken away one by one."""
    parts = path.replace("\\", "/").removeprefix("./").split("/")
    return ("/".join(parts[first:]) for first in range(len(parts)))


def _named(table: pa.Table) -> tuple[list[str] | None, pa.Table]:
    """The names of the samples, where a column gives them, and the rest of the table."""
    for name in NAME_COLUMNS:
        if name in table.column_names and _is_text(table.schema.field(name).type):
            if table[name].null_count:
                raise ValueError(f"its column {name} has nulls")
            return table[name].to_pylist(), table.drop_columns(name)
    return None, table


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return kind in (pa.string(), pa.large_string(), pa.string_view())


def _matrix(table: pa.Table) -> npt.NDArray[Any]:
    columns = [_stored(column.combine_chunks()) for column in table.itercolumns()]
    if any(column.null_count for column in columns):
        raise ValueError("there are nulls")
    if len(columns) == 1 and not pa.types.is_floating(columns[0].type):
        column = columns[0]
        if not hasattr(column.type, "value_type") or not pa.types.is_floating(column.type.value_type):
            raise ValueError(f"its column is of type {column.type}")
        values = column.flatten()
        width = len(values) // max(1, len(column))
        if values.null_count or any(length.as_py() != width for length in column.value_lengths().unique()):
            raise ValueError("its lists are not equally long, or hold nulls")
        return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(column), width)
    if not columns or not all(pa.types.is_floating(column.type) for column in columns):
        raise ValueError(f"its columns are of types {', '.join(sorted({str(c.type) for c in columns}))}")
    return np.stack([column.to_numpy(zero_copy_only=False) for column in columns], axis=1)


def _stored(column: pa.Array) -> pa.Array:
    """A tensor's or another extension type's values, as the lists that they are stored in."""
    return column.storage if isinstance(column, pa.ExtensionArray) else column
