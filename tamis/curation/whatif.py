"""What other thresholds would give, told in advance for every pair of them: how many pairs, how many samples.

A cut is a half-open range [low, high) of similarities. The number of distinct samples with a listed pair in a cut is
the number of incidences in it before which their sample has none in the cut; so a table over (the bin of the sample's
incidence before, its own bin), summed up along both, tells it of any cut by two look-ups.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BINS = 256


@dataclass(frozen=True, eq=False)
class WhatIf:
    """At each of E ascending similarities where a cut may begin or end:

    edges: (E,) float64. pairs: (E,) int64, of all pairs those below the edge. listed: (E,) int64, of the listed ones.
    samples: (E, E) uint32, samples[i, j] is the number of incidences below edge j before which their sample has none
        at or above edge i; see `distinct`.
    """

    edges: npt.NDArray[np.float64]
    pairs: npt.NDArray[np.int64]
    listed: npt.NDArray[np.int64]
    samples: npt.NDArray[np.uint32]

    def distinct(self, low: int, high: int) -> int:
        """How many samples have a listed pair from edge number `low` to below edge number `high`."""
        return int(self.samples[low, high]) - int(self.samples[low, low])


def cut_edges(
    edges: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], always: tuple[float, ...]
) -> npt.NDArray[np.float64]:
    """At most BINS + 1 of a histogram's (B + 1,) edges, evenly over what holds pairs, and the edges in `always`."""
    filled = np.flatnonzero(counts)
    first, last = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, len(counts))
    step = max(1, -(-(last - first) // BINS))
    places = {*range(first, last, step), last, *np.searchsorted(edges, always).tolist()}
    return edges[sorted(place for place in places if 0 <= place < len(edges))]


def what_if(
    edges: npt.NDArray[np.float64],
    histogram_edges: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64],
    a: npt.NDArray[np.int64],
    b: npt.NDArray[np.int64],
    similarity: npt.NDArray[np.float32],
) -> WhatIf:
    """edges: some of the (B + 1,) `histogram_edges` over all pairs. a, b, similarity: (M,) the listed pairs.

    Takes O(M log M) time and 32 bytes a pair.
    """
    below = np.append(0, np.cumsum(counts))
    # What a rounding put beyond the first or the last edge belongs to the bin beside it, as in a histogram.
    bins = np.searchsorted(edges.astype(np.float32), similarity, side="right").astype(np.int64).clip(1, len(edges) - 1)
    size = len(edges) + 1
    incidences = np.sort(np.concatenate([a * size + bins, b * size + bins]))
    # Once for each sample and bin: several pairs of a sample in one bin are one incidence.
    sample, own = np.divmod(incidences[np.diff(incidences, prepend=-1) > 0], size)
    before = np.concatenate([[-1], own[:-1]])[: len(own)]
    before[np.diff(sample, prepend=-1) > 0] = -1
    table = np.bincount((before + 1) * size + own, minlength=size * size).reshape(size, size)
    # Bin number i ends at edge i, so what lies below edge i has a bin of i or less.
    summed = table.cumsum(0).cumsum(1)
    return WhatIf(
        edges,
        below[np.searchsorted(histogram_edges, edges)],
        np.cumsum(np.bincount(bins, minlength=size))[: size - 1],
        summed[1:size, : size - 1].astype(np.uint32),
    )
