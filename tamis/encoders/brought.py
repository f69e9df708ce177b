"""Embeddings a user brings instead of an encoder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tamis.arrays import write_npy
from tamis.errors import InputError

Floats: TypeAlias = npt.NDArray[np.floating[Any]]

# What a column is called that names the rows, the first before the second.
NAMES = ("sample_id", "path")
NAMED = 5
BLOCK = 4096
FORM = "Give an (N, d) float array as .npy, or a Parquet file with one list column or d columns of floats."
ORDER = (
    "Give one row an image, in the order of samples.parquet and /samples: folder by folder, each sorted by name, as "
    "sorted(Path(SOURCE).rglob('*')) has them; an archive's as it holds them. Or name the rows in a Parquet file: a "
    "column sample_id or path, such as cat/1.png, and they may come in any order."
)


def load_embeddings(path: Path, sample_ids: pa.ChunkedArray, left_out: Sequence[str] = ()) -> Floats:
    """Embeddings a user brings: (N, d) floats, a row for each of the N `sample_ids` and in their order, from .npy
    (mapped, not read) or Parquet, told apart by their content.

    A Parquet file has one column of equally long lists of floats or of equal tensors, or float columns only. A column
    of NAMES beside them says which sample each row is of; without one, and in .npy, the rows are in the samples' order.
    left_out: files of the source that are no samples; rows named so are passed over.
    Raises InputError for other files, pickled objects, other shapes and types, nulls and ragged rows, and for rows that
    are not one a sample.
    """
    names = None
    try:
        with path.open("rb") as file:
            magic = file.read(6)
        if magic == b"\x93NUMPY":
            array: Floats = np.load(path, mmap_mode="r", allow_pickle=False)
        elif magic[:4] == b"PAR1":
            table = pq.read_table(path)
            names = next((table[name].cast(pa.string()) for name in NAMES if name in table.column_names), None)
            array = _matrix(table.drop_columns([name for name in NAMES if name in table.column_names]))
        else:
            raise ValueError("it is neither .npy nor Parquet")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}.", FORM) from error
    except (ValueError, pa.ArrowException) as error:
        raise InputError(f"{path} does not hold embeddings: {error}.", FORM) from error
    if array.ndim != 2 or array.shape[1] == 0 or array.dtype.kind != "f":
        raise InputError(f"{path} holds {array.dtype} of shape {array.shape}.", FORM)
    if names is not None:
        return array[_rows_of(path, names, sample_ids, left_out)]
    if len(array) != len(sample_ids):
        told = f"; left out, with no row, {_listed(left_out, 'files')}" if left_out else ""
        raise InputError(f"{path} has {len(array)} rows for {len(sample_ids)} images{told}.", ORDER)
    return array


def save_embeddings(array: Floats, file: Path) -> None:
    """Writes (N, d) floats as .npy, in the shortest type that holds every number of them: equal numbers give equal
    bytes, whatever type and order of bytes they came in. A part of the array is in memory at once.
    """
    parts = [slice(start, start + BLOCK) for start in range(0, len(array), BLOCK)]
    kinds = ("<f2", "<f4")
    with np.errstate(over="ignore"):
        exact = (kind for kind in kinds if all(np.array_equal(array[part], array[part].astype(kind)) for part in parts))
        write_npy(file, next(exact, "<f8"), array.shape, (array[part] for part in parts))


def _rows_of(
    path: Path, names: pa.ChunkedArray, sample_ids: pa.ChunkedArray, left_out: Sequence[str]
) -> npt.NDArray[np.int64]:
    """(N,) the row of each sample, by its name."""
    counts = names.value_counts()
    rows = pc.index_in(sample_ids, value_set=names)
    known = pa.chunked_array([*sample_ids.chunks, pa.array(left_out, sample_ids.type)], sample_ids.type)
    wrong = {
        "images have no row": sample_ids.filter(pc.is_null(rows)),
        "rows name no image": names.filter(pc.invert(pc.is_in(names, value_set=known))),
        "images have several rows": counts.field("values").filter(pc.greater(counts.field("counts"), 1)),
    }
    causes = [_listed(found.to_pylist(), what) for what, found in wrong.items() if len(found)]
    if causes:
        raise InputError(
            f"{path} names its rows, but {'; '.join(causes)}.",
            "Name each as samples.parquet and /samples do: by the path in the source, such as cat/1.png, once.",
        )
    return np.asarray(rows.to_numpy(), np.int64)


def _listed(names: Sequence[str | None], what: str) -> str:
    return f"{len(names)} {what}: " + ", ".join(map(str, names[:NAMED])) + ", ..." * (len(names) > NAMED)


def _matrix(table: pa.Table) -> Floats:
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
