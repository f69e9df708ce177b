"""Which pairs are difficult, how difficult each sample is, and how many to call so."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tamis.errors import InputError
from tamis.scan.histogram import Histogram
from tamis.scan.memory import Arrays, memory_budget
from tamis.scan.rows import BLOCK

# The paper's runs remove 8% to 20% of a training set: no more by default, but less where less is difficult.
MOST = 0.20
# The score counts a sample's pairs from pos_high to this many times pos_high: among all pairs in the band these are the
# ones alike enough to be confused. 10% to 30% is the band whose share was measured to find mixed images best.
SCORE_WIDTH = 3.0


@dataclass(frozen=True)
class Thresholds:
    """The band of difficult pairs: sim_low <= s < sim_high. (Zhang et al., section 3.)

    pos_high, pos_low: shares of all pairs at or above sim_high and sim_low: about 1/(r+1), the share of pairs that are
    of one class, and close to 1. sim_score: the lower end of the part of the band that the difficulty score counts.
    """

    pos_high: float
    pos_low: float
    sim_high: float
    sim_low: float
    sim_score: float


@dataclass(frozen=True)
class ListedPairs:
    """Pairs that the scan kept: a, b (P,) int64 and similarity (P,) float32."""

    a: npt.NDArray[np.int64]
    b: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float32]


def edge_at(histogram: Histogram, share: float, edges: npt.NDArray[np.float64]) -> float:
    """The edge nearest to the similarity that `share` of all pairs reach; every count read at an edge is exact.

    Raises InputError for a share outside (0, 1).
    """
    if not 0 < share < 1:
        raise InputError(
            f"pos_high and pos_low are shares of all pairs; {share} is none.", "Use 0 to 1, both excluded."
        )
    return float(edges[np.abs(edges - histogram.quantile(share)).argmin()])


def thresholds_at(histogram: Histogram, sim_high: float, sim_low: float, edges: npt.NDArray[np.float64]) -> Thresholds:
    """The band between two edges, with the exact shares there.

    Raises InputError when the two are one, or the wrong way round.
    """
    pos_high, pos_low = histogram.share_above(sim_high), histogram.share_above(sim_low)
    if sim_low >= sim_high:
        raise InputError(
            f"The band from {sim_low:.4f} to {sim_high:.4f} is empty.",
            "Choose pos_high and pos_low further apart, or another encoder if its embeddings are too alike.",
        )
    share = min(SCORE_WIDTH * pos_high, pos_low)
    sim_score = float(edges[np.abs(edges - histogram.quantile(share)).argmin()])
    return Thresholds(pos_high, pos_low, sim_high, sim_low, min(max(sim_score, sim_low), sim_high))


def cumulative(profile: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(P + 1, N): how many of each sample's pairs lie below each edge, from its (N, P) counts between the edges.

    Edge by edge in memory, or in a file beyond the budget, so that a band's scores read two rows and not the whole.
    """
    count, bins = profile.shape
    below = Arrays(memory_budget()).zeros((bins + 1, count), profile.dtype)
    for start in range(0, count, BLOCK):
        part = profile[start : start + BLOCK]
        below[1:, start : start + BLOCK] = np.cumsum(part, axis=1, dtype=profile.dtype).T
    return below


def band_share(
    below: npt.NDArray[Any], edges: npt.NDArray[np.float64], sim_low: float, sim_high: float
) -> npt.NDArray[np.float32]:
    """(N,) float32: the share of each sample's pairs with sim_low <= s < sim_high.

    below: (P + 1, N), see `cumulative`. edges: (P + 1,); both ends of the band must be among them.
    """
    first, last = np.searchsorted(edges, [sim_low, sim_high])
    inside = np.subtract(below[last], below[first], dtype=np.float32)
    share: npt.NDArray[np.float32] = inside / np.maximum(below[-1], 1).astype(np.float32)
    return share


def auto_fraction(difficulty: npt.NDArray[np.float32]) -> float:
    """The share of samples to call difficult: those that are nearer to blends than to samples, a fifth at most.

    difficulty: (N,) float32, as of `blend_score`.
    """
    return min(float((difficulty > 0.5).mean()), MOST)


def most_difficult(
    difficulty: npt.NDArray[np.float32], fraction: float, among: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.bool_]:
    """(N,) bool: the given share, of all samples or of those `among` which is asked, with the highest scores; of equal
    scores the earlier sample goes first."""
    asked = np.arange(len(difficulty)) if among is None else np.flatnonzero(among)
    chosen = np.zeros(len(difficulty), bool)
    hardest = np.argsort(-difficulty[asked], kind="stable")[: round(fraction * len(asked))]
    chosen[asked[hardest]] = True
    return chosen


def distinct_pairs(
    indices: npt.NDArray[np.int64], similarities: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Each unordered pair of the neighbour lists once: a < b, most similar first, then by a and b.

    indices, similarities: (N, k), -1 where there is no neighbour.
    """
    count, there = len(indices), indices >= 0
    own, values = np.repeat(np.arange(count), there.sum(1)), similarities[there]
    keys = np.minimum(own, indices[there]) * count + np.maximum(own, indices[there])
    keys, first = np.unique(keys, return_index=True)
    values = values[first]
    order = np.argsort(-values, kind="stable")
    a, b = np.divmod(keys[order], count)
    return a, b, values[order]
