"""How many classes there are: as many as the density of the samples has significant peaks.

A class is where samples lie denser than between it and the next, whatever its shape and size. Density is estimated from
each sample's distances to its nearest others; a peak counts if the density falls, on every way to a higher one, by more
than chance would let it (Chazal et al. 2013, persistence; Rodriguez and Laio 2014).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix

from tamis.scan.cpu_kernels import compiled
from tamis.scan.nearest import nearest

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

# Neighbours that tell a sample's density, and that ways lead over.
DENSITY, WAYS = 5, 8
# Where a class has more samples than this, more neighbours are looked at, and fewer where it has less: what is a peak
# among ten thousand need not be a class. docs/detection.md has what came of other values.
A_CLASS, GROWTH, FEWEST_TIMES, MOST_TIMES = 150, 0.75, 0.5, 16.0
# By how many standard errors of a density's logarithm a peak must stand out; and, for the interval, others beside it.
SIGNIFICANCE, LESS, MORE = 5.25, 4.75, 5.75
# Of the usual distance to a neighbour: what is nearer is a copy, and a crowd of copies no class.
A_COPY = 0.01


class Peaks(NamedTuple):
    """places: (K,) int64, the points at the significant peaks, densest first. at_least, at_most: their number where
    more, and less, is asked of one."""

    places: Indices
    at_least: int
    at_most: int


def density_peaks(points: npt.NDArray[np.float32], number: int | None = None) -> Peaks:
    """points: (n, d) float32, of which copies count once. number: of the most prominent peaks to return, or as many as
    there are, in place of the significant ones. Costs O(n^2 d)."""
    kept, distances, neighbours = _without_copies(points)
    if len(kept) <= WAYS:
        return Peaks(kept[:1], 1, 1)
    if number is not None:
        return Peaks(kept[_peaks(distances, neighbours, 1.0, number).places], number, number)
    # How many neighbours are looked at follows from how many peaks there are, and these from it: until a number comes
    # again. Begun with fewer neighbours than more, for few coarse peaks may agree with as coarse a look.
    distances, neighbours = nearest(points[kept], min(round(WAYS * MOST_TIMES), len(kept) - 1))
    found, seen = _peaks(distances, neighbours, 1.0), set[int]()
    while len(found.places) not in seen:
        seen.add(len(found.places))
        times = (len(kept) / (A_CLASS * len(found.places))) ** GROWTH
        found = _peaks(distances, neighbours, min(max(times, FEWEST_TIMES), MOST_TIMES))
    return found._replace(places=kept[found.places])


def _without_copies(points: npt.NDArray[np.float32]) -> tuple[Indices, npt.NDArray[np.float32], Indices]:
    """The places of all points but those that repeat an earlier one; and of these the distances to, and the numbers
    among them of, the WAYS nearest."""
    kept = np.arange(len(points))
    while True:
        distances, neighbours = nearest(points[kept], min(WAYS, len(kept) - 1))
        apart = distances[distances > 0]
        least = A_COPY * float(np.median(apart)) if len(apart) else 0.0
        copies = ((distances <= least) & (neighbours < np.arange(len(kept))[:, None])).any(1)
        if not copies.any():
            return kept, distances, neighbours
        kept = kept[~copies]


def _peaks(distances: npt.NDArray[np.float32], neighbours: Indices, times: float, number: int | None = None) -> Peaks:
    """distances, neighbours: as of `nearest`. times: how many times as many of them are looked at."""
    count = len(distances)
    density, ways = (min(max(2, round(number * times)), count - 1) for number in (DENSITY, WAYS))
    logarithm = _log_density(distances[:, :density].astype(np.float64))
    links = np.repeat(np.arange(count, dtype=np.int32), ways), neighbours[:, :ways].ravel().astype(np.int32)
    graph = coo_matrix((np.ones(count * ways, np.int8), links), shape=(count, count))
    linked = (graph.tocsr() + graph.T.tocsr()).tocsr()
    order = np.argsort(-logarithm, kind="stable")
    prominence = _prominence(order, logarithm, linked.indptr.astype(np.int64), linked.indices.astype(np.int64))
    error = 1 / np.sqrt(density)
    at_most, at_least = (int(np.count_nonzero(prominence > errors * error)) for errors in (LESS, MORE))
    if number is None:
        places = order[prominence[order] > SIGNIFICANCE * error]
    else:
        places = np.argsort(-prominence, kind="stable")[: min(number, np.count_nonzero(prominence > -np.inf))]
    return Peaks(places, at_least, at_most)


def _log_density(distances: Floats) -> Floats:
    """(n,) up to a constant, from (n, k) ascending distances: the mean over the k of a neighbour's own estimate.

    The dimension of what the points lie on is estimated too (Levina and Bickel 2005, averaged as by MacKay and
    Ghahramani), for a density in fewer dimensions falls more slowly with distance.
    """
    logarithms = np.log(np.maximum(distances, np.finfo(np.float32).tiny))
    spread = (logarithms[:, -1:] - logarithms[:, :-1]).mean()
    density: Floats = -logarithms.mean(1) / max(spread, 1e-12)
    return density


@compiled
def _prominence(order: Indices, density: Floats, starts: Indices, linked: Indices) -> Floats:
    """(n,) how far the density falls from each point on the way to a denser one, infinite for the densest that can be
    reached: points are taken up from the densest on, and where two hills meet the lower one's peak is settled.

    order: (n,) the points by descending density. starts, linked: the links of a point, as of a sparse matrix.
    """
    count = len(order)
    rank = np.empty(count, np.int64)
    for place in range(count):
        rank[order[place]] = place
    # The peak that a point's hill has, by way of others.
    towards = np.full(count, -1, np.int64)
    prominence = np.full(count, -np.inf)
    for place in range(count):
        point = order[place]
        top = -1
        for link in range(starts[point], starts[point + 1]):
            if rank[linked[link]] < place:
                peak = linked[link]
                while towards[peak] != peak:
                    towards[peak] = towards[towards[peak]]
                    peak = towards[peak]
                if top < 0:
                    top = peak
                elif peak != top:
                    high, low = (peak, top) if rank[peak] < rank[top] else (top, peak)
                    prominence[low] = density[low] - density[point]
                    towards[low] = high
                    top = high
        if top < 0:
            towards[point], prominence[point] = point, np.inf
        else:
            towards[point] = top
    return prominence
