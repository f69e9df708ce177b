"""Embeddings a user brings instead of an encoder."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tamis.errors import InputError


def load_embeddings(path: Path) -> npt.NDArray[np.floating[Any]]:
    """Embeddings a user brings: (N, d) floats from .npy (mapped, not read) or Parquet, told apart by their content.

    A Parquet file has one column of equally long lists of floats or of equal tensors, or float columns only.
    Raises InputError for other files, pickled objects, other shapes and types, nulls and ragged rows.
    """
    hint = "Give an (N, d) float array as .npy, or a Parquet file with one list column or d columns of floats."
    try:
        with path.open("rb") as file:
            magic = file.read(6)
        if magic == b"\x93NUMPY":
            array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        elif magic[:4] == b"PAR1":
            array = _matrix(pq.read_table(path))
        else:
            raise ValueError("it is neither .npy nor Parquet")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}.", hint) from error
    except (ValueError, pa.ArrowException) as error:
        raise InputError(f"{path} does not hold embeddings: {error}.", hint) from error
    if array.ndim != 2 or array.shape[1] == 0 or array.dtype.kind != "f":
        raise InputError(f"{path} holds {array.dtype} of shape {array.shape}.", hint)
    return array


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
