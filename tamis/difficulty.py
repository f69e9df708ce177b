"""Which pairs are difficult, how difficult each sample is, and how many to call so."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tamis.errors import InputError
from tamis.similarity import Histogram

# The paper's runs remove 8% to 20% of a training set.
FRACTION_RANGE = 0.08, 0.20
# The score counts a sample's pairs from pos_high to this many times pos_high: among all pairs in the band these are the
# ones alike enough to be confused. 10% to 30% is the band whose share was measured to find mixed images best.
SCORE_WIDTH = 3.0


@dataclass(frozen=True)
class Thresholds:
    """The band of difficult pairs: sim_low <= s < sim_high.

    pos_high, pos_low: shares of all pairs at or above sim_high and sim_low. sim_score: the lower end of the part of the
    band that the difficulty score counts.
    """

    pos_high: float
    pos_low: float
    sim_high: float
    sim_low: float
    sim_score: float


def choose_thresholds(
    histogram: Histogram, pos_high: float, pos_low: float, edges: npt.NDArray[np.float64] | None = None
) -> Thresholds:
    """Reads the similarities at two percentiles of the descending similarities off the histogram.

    pos_high ~ 1/(r+1), the share of pairs that are of one class; pos_low close to 1. (Zhang et al., section 3.)
    edges: the similarities that may be chosen, edges of the histogram; all of them by default. Every count at a chosen
    edge is exact, and pos_high and pos_low of the result are the exact shares there.

    Raises InputError unless 0 < pos_high < pos_low < 1, and when the data are too alike to hold a band.
    """
    for name, value in (("pos_high", pos_high), ("pos_low", pos_low)):
        if not 0 < value < 1:
            raise InputError(f"{name} is {value}.", "Use a share between 0 and 1, or auto for pos_high.")
    if pos_high >= pos_low:
        raise InputError(f"pos_high ({pos_high}) is not smaller than pos_low ({pos_low}).", "Choose a wider band.")
    allowed = histogram.edges if edges is None else edges
    sim_high, sim_low = (_nearest(allowed, histogram.quantile(share)) for share in (pos_high, pos_low))
    if sim_low >= sim_high:
        raise InputError(
            f"No edge lies between the similarities at {pos_high:g} and {pos_low:g}: the embeddings are too alike.",
            "Choose a wider band or another encoder.",
        )
    exact_high, exact_low = histogram.share_above(sim_high), histogram.share_above(sim_low)
    sim_score = _nearest(allowed, histogram.quantile(min(SCORE_WIDTH * exact_high, exact_low)))
    return Thresholds(exact_high, exact_low, sim_high, sim_low, sim_score)


def band_share(
    profile: npt.NDArray[np.int32], edges: npt.NDArray[np.float64], sim_low: float, sim_high: float
) -> npt.NDArray[np.float32]:
    """(N,) float32: the share of each sample's pairs with sim_low <= s < sim_high.

    profile: (N, P) int32 counts between the (P+1,) edges; both ends of the band must be among the edges.
    """
    first, last = np.searchsorted(edges, [sim_low, sim_high])
    inside = profile[:, first:last].sum(axis=1, dtype=np.int64)
    share: npt.NDArray[np.float32] = (inside / np.maximum(profile.sum(axis=1, dtype=np.int64), 1)).astype(np.float32)
    return share


def auto_fraction(difficulty: npt.NDArray[np.float32]) -> float:
    """The share of samples to call difficult: where Otsu's criterion (1979) splits the scores into two groups, held to
    the 8% to 20% that the paper's runs remove.

    difficulty: (N,) float32.
    """
    low, high = FRACTION_RANGE
    ordered = np.sort(difficulty.astype(np.float64))[::-1]
    count = len(ordered)
    taken = np.arange(1, count)
    sums = np.cumsum(ordered)[:-1]
    rest = ordered.sum() - sums
    between = taken * (count - taken) * (sums / taken - rest / (count - taken)) ** 2
    return float(np.clip((np.argmax(between) + 1) / count, low, high))


def most_difficult(difficulty: npt.NDArray[np.float32], fraction: float) -> npt.NDArray[np.bool_]:
    """(N,) bool: the given share of samples with the highest scores; of equal scores the earlier sample goes first."""
    if not 0 <= fraction < 1:
        raise InputError(f"fraction is {fraction}.", "Use a share from 0 to below 1, or auto.")
    chosen = np.zeros(len(difficulty), bool)
    chosen[np.argsort(-difficulty, kind="stable")[: round(fraction * len(difficulty))]] = True
    return chosen


def distinct_pairs(
    indices: npt.NDArray[np.int64], similarities: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Each unordered pair of the neighbour lists once: a < b, most similar first, then by a and b.

    indices, similarities: (N, k), -1 where there is no neighbour.
    """
    rows = np.repeat(np.arange(len(indices)), indices.shape[1])
    partners, values = indices.ravel(), similarities.ravel()
    there = partners >= 0
    a, b = np.minimum(rows, partners)[there], np.maximum(rows, partners)[there]
    _, first = np.unique(a * len(indices) + b, return_index=True)
    a, b, values = a[first], b[first], values[there][first]
    order = np.lexsort((b, a, -values))
    return a[order], b[order], values[order]


def _nearest(edges: npt.NDArray[np.float64], similarity: float) -> float:
    return float(edges[np.abs(edges - similarity).argmin()])
