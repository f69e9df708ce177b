"""The spaces in which samples are clustered and scored: principal components of the embeddings, whitened in part."""

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import normalize

from tamis.scan.rows import Rows

Indices = npt.NDArray[np.int64]

COMPONENTS = 64
COVARIANCE_SAMPLE = 8192
# Components with less of the largest one's variance than this are noise of float32.
LEAST_VARIANCE = 1e-6


class Whitened:
    """Takes rows to (n, COMPONENTS or fewer) float32 of length one.

    Each of the leading principal components of the unit rows is divided by a power of its standard deviation: no few of
    them outweigh the rest, as they do in raw features. power: 1 would blow up all to one size, 0 leave them as is.
    """

    def __init__(self, rows: Rows, power: float, seed: int) -> None:
        sample = rows.unit(sampled(len(rows), COVARIANCE_SAMPLE, np.random.default_rng((seed, 0)))).double()
        self._mean = sample.mean(0).float()
        variance, directions = torch.linalg.eigh(sample.T.cov(correction=0).view(rows.dimension, rows.dimension))
        kept = torch.nonzero(variance > LEAST_VARIANCE * variance[-1]).flatten()[-COMPONENTS:]
        self._scale = (variance[kept] ** (power / 2)).float()
        self._map = (directions[:, kept] / variance[kept] ** (power / 2)).float()

    def __call__(self, rows: Rows, which: "slice | Indices") -> torch.Tensor:
        return normalize(self.components(rows, which))

    def components(self, rows: Rows, which: "slice | Indices") -> torch.Tensor:
        """The same before they are brought to length one."""
        components: torch.Tensor = (rows.unit(which) - self._mean) @ self._map
        return components

    def plain(self, components: torch.Tensor) -> torch.Tensor:
        """Such components as they are without whitening: as far from each other as the unit rows are."""
        plain: torch.Tensor = components * self._scale
        return plain


def sampled(count: int, size: int, random: np.random.Generator) -> Indices:
    """`size` of the numbers below `count` at random, or all of them; ascending."""
    return np.sort(random.choice(count, min(size, count), replace=False))
