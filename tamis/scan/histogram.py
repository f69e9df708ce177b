"""Histograms of similarities, uniform over [-1, 1], and how similarities that were rounded to bf16 fall into them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tamis.errors import InputError
from tamis.shown import facts


@dataclass(frozen=True)
class Histogram:
    """Similarities of unordered pairs.

    edges: (B+1,) float64, from -1 to 1, each exactly representable in float32.
    counts: (B,) int64; bin b holds edges[b] <= s < edges[b+1], the last one its upper edge too.
    exact_edges: the edges at which counts are those of the similarities as computed; in bf16 those that round alike are
        spread evenly over up to four bins, and what is read between such edges is interpolated.
    exact: whether every pair was counted; else the counts are of pairs with a random reference set.
    error: bound on the error of any share read from it, at 95% confidence (0 when exact), by the
        Dvoretzky-Kiefer-Wolfowitz inequality over the reference samples.
    """

    edges: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    exact_edges: npt.NDArray[np.float64]
    exact: bool = True
    error: float = 0.0

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def _repr_html_(self) -> str:
        counted = "all" if self.exact else f"a sample of them, shares within {self.error:.2g}"
        marks = {f"{share:.0%} are at or above": f"{self.quantile(share):.4f}" for share in (0.01, 0.1, 0.5)}
        return facts(f"Similarities of {self.total:,} pairs", {"counted": counted, **marks})

    def share_above(self, similarity: float) -> float:
        """Share of pairs at or above `similarity`: exact at an edge, linear between two."""
        cumulative = np.concatenate([[0], np.cumsum(self.counts)])
        below = np.interp(similarity, self.edges, cumulative.astype(np.float64))
        return float(1.0 - below / cumulative[-1])

    def quantile(self, share: float) -> float:
        """The similarity that `share` of the pairs reach or exceed, linear inside a bin."""
        if not 0.0 <= share <= 1.0:
            raise InputError(f"A share lies between 0 and 1; {share} does not.")
        above = np.cumsum(self.counts[::-1]).astype(np.float64)
        target = share * above[-1]
        bin_from_top = int(np.searchsorted(above, target))
        before = above[bin_from_top - 1] if bin_from_top else 0.0
        inside = (target - before) / max(above[bin_from_top] - before, 1.0)
        top = len(self.counts) - bin_from_top
        return float(self.edges[top] - inside * (self.edges[top] - self.edges[top - 1]))


def exact_edges(bins: int, *, bf16: bool) -> npt.NDArray[np.float64]:
    """The edges of the uniform histogram at which its counts are exact: those that no pattern's values lie around."""
    exact = np.ones(bins + 1, np.bool_)
    if bf16:
        for first, last in zip(*pattern_bins(bins), strict=True):
            exact[first + 1 : last] = False
    edges: npt.NDArray[np.float64] = np.linspace(-1.0, 1.0, bins + 1)[exact]
    return edges


def pattern_bins(bins: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(65536,) each: the bins from first to before last that the values rounding to a bf16 pattern lie in.

    Where a pattern's values begin or end inside a bin, it counts for the bin of the pattern itself.
    """
    order = np.argsort(key_of_pattern(np.arange(2**16, dtype=np.uint16)), kind="stable")
    # What is beyond [-1, 1], infinite or no number keeps its side, so that the values ascend.
    side = np.where(order & 0x8000, -1.0, 1.0)
    values = pattern_values()[order]
    values = np.where(np.abs(values) <= 1, values, side).astype(np.float64)
    between = (values[:-1] + values[1:]) / 2
    low, high = np.r_[-1.0, between] * (bins // 2), np.r_[between, 1.0] * (bins // 2)
    inside = np.floor(values * (bins // 2))
    first = np.where(low == np.floor(low), low, inside)
    last = np.where(high == np.floor(high), high, inside + 1)
    first, last = (np.clip(edge + bins // 2, 0, bins).astype(np.int64) for edge in (first, last))
    first = np.minimum(first, bins - 1)
    last = np.maximum(last, first + 1)
    unordered = np.empty(2**16, np.int64), np.empty(2**16, np.int64)
    unordered[0][order], unordered[1][order] = first, last
    return unordered


def pattern_values() -> npt.NDArray[np.float32]:
    return (np.arange(2**16, dtype=np.uint32) << 16).view(np.float32)


def key_of_pattern(patterns: npt.NDArray[np.uint16]) -> npt.NDArray[np.int32]:
    """Orders patterns as the values they stand for."""
    bits = patterns.view(np.int16)
    return (bits ^ ((bits >> 15) & 0x7FFF)).astype(np.int32)
