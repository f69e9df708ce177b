"""The mean of paired differences, with its interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """A mean difference, and its 95% interval. Of differences that are all alike, as few of a coarse measure may be by
    chance, the interval is one point, which tells nothing of their spread: neither a gain nor a loss."""

    mean: float
    low: float
    high: float

    @property
    def is_gain(self) -> bool:
        return self.high > self.low > 0

    @property
    def is_loss(self) -> bool:
        return self.low < self.high < 0


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Of `ours` less `theirs`, pair by pair (two or more), by Student's t (1908)."""
    differences = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    count = len(differences)
    half = float(stdtrit(count - 1, 0.5 + CONFIDENCE / 2)) * float(differences.std(ddof=1)) / math.sqrt(count)
    mean = float(differences.mean())
    return Difference(mean, mean - half, mean + half)
