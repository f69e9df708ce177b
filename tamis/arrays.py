"""Arrays in files, refused by an error where a disk is full: a map without room ends the process by a signal."""

import os
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt


def write_npy(file: Path, dtype: npt.DTypeLike, shape: tuple[int, ...], parts: Iterable[npt.NDArray[Any]]) -> None:
    """Writes an .npy file of rows that come part by part."""
    kind = np.lib.format.dtype_to_descr(np.dtype(dtype))
    with file.open("wb") as sink:
        np.lib.format.write_array_header_1_0(sink, {"descr": kind, "fortran_order": False, "shape": shape})
        for part in parts:
            sink.write(part.astype(dtype).tobytes())


def mapped(file: BinaryIO, folder: str | Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """A map of zeros over an empty file of the folder. Raises OSError that names it where there is no room for all."""
    try:
        # Not every system has it.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, prod(shape) * np.dtype(dtype).itemsize)
        return np.memmap(file, dtype, "w+", shape=shape)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error
