"""What the scans on CPU and GPU share: the task and the method, what they find, and where a row's first cut may lie."""

from dataclasses import dataclass
from functools import cached_property
from math import exp
from typing import Any

import numpy as np
import numpy.typing as npt

# What adding up a product in float32 may cost, a dimension.
ACCUMULATION = 2.0**-24
# How rarely a row may have to be done again because its first cut was too high.
FAILURE = 1e-4


@dataclass(frozen=True, eq=False)
class Task:
    """What to find: for each row the k most similar partners with low <= s < high, the histogram of all pairs over
    [-1, 1] in `bins` bins, and how many of a row's pairs are between consecutive `profile_edges`.

    bins: a power of two. profile_edges: ascending edges of the histogram, from -1 to 1; None for no profile.
    columns: indices, ascending, of the samples that all rows are compared with; None for all, each unordered pair once.
    """

    k: int
    low: float
    high: float
    bins: int
    profile_edges: npt.NDArray[np.float64] | None
    columns: npt.NDArray[np.int64] | None

    @cached_property
    def profile_of_bin(self) -> npt.NDArray[np.uint8] | None:
        """(bins,), which bin of the profile each of the histogram's bins belongs to."""
        if self.profile_edges is None:
            return None
        starts = np.linspace(-1.0, 1.0, self.bins + 1)[:-1]
        return (np.searchsorted(self.profile_edges, starts, side="right") - 1).astype(np.uint8)


@dataclass(frozen=True)
class Shape:
    """How a GPU's kernel cuts up its work: squares of `block`, tiles of (rows, columns), products `depth` long; `warps`
    and pipeline `stages` of a thread block, and how many of those a processor holds at once."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int
    resident: int
    block: int = 8192


@dataclass(frozen=True)
class Method:
    """How to find it: on the `cpu`, in bf16 or in float32, or on a GPU (`cuda`) in tiles of a shape.

    All parts of one scan need the same, for the last bit of a product may vary with it.
    """

    device: str
    bf16: bool
    shape: Shape | None = None


@dataclass(frozen=True)
class Found:
    """indices, similarities: (N, k), padded with -1 and -inf. counts: (bins,) int64. profile: (N, P) whole numbers."""

    indices: npt.NDArray[np.int64]
    similarities: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int64]
    profile: npt.NDArray[Any]


def seed_rank(mean: float) -> int:
    """The smallest r that a Poisson variable of this mean reaches with a probability of at most FAILURE."""
    term = below = exp(-mean)
    rank = 1
    while 1.0 - below > FAILURE:
        term *= mean / rank
        below += term
        rank += 1
    return rank
