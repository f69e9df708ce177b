"""Large arrays: in memory while a budget lasts, in scratch files beyond it."""

import os
import tempfile
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from tamis.arrays import mapped
from tamis.errors import SettingsError

DEFAULT_BUDGET = 2**30


def memory_budget() -> int:
    """Bytes a computation may take for its arrays: TAMIS_MEMORY_BUDGET, 1 GiB by default."""
    given = os.environ.get("TAMIS_MEMORY_BUDGET", "")
    if given and not given.isdigit():
        raise SettingsError(f"TAMIS_MEMORY_BUDGET is {given!r}.", "Give a number of bytes.")
    return int(given) if given else DEFAULT_BUDGET


class Arrays:
    """Hands out arrays of zeros; those beyond the budget are files that vanish with them, in TMPDIR."""

    def __init__(self, budget: int) -> None:
        self._left = budget

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        size = prod(shape) * np.dtype(dtype).itemsize
        if size <= self._left:
            self._left -= size
            return np.zeros(shape, dtype)
        file = tempfile.TemporaryFile(prefix="tamis-")  # noqa: SIM115  the array keeps it open
        return np.asarray(mapped(file, tempfile.gettempdir(), dtype, shape))
