"""The spaces in which samples are clustered and scored: principal components of the embeddings, whitened in part."""

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse.linalg import eigsh
from torch.nn.functional import normalize

from tamis.scan.rows import Rows

Indices = npt.NDArray[np.int64]

COMPONENTS = 64
COVARIANCE_SAMPLE = 8192
# Of the largest square: less is what rounding leaves of none.
ROUNDING = 1e-12
# A matrix of so many rows is decomposed as a whole.
WHOLE = 1024
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
        variance, directions = principal(sample - sample.mean(0), COMPONENTS)
        kept = torch.nonzero(variance > LEAST_VARIANCE * variance[-1]).flatten()
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


def principal(sample: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean squares of (n, d) float64 rows along their leading directions, and these: (k,), ascending, and (d, k).

    k is count, or d or the rank of the rows where they are fewer. The smaller of the two products of the rows with
    themselves is what is decomposed, and of a large one the leading directions alone (Lanczos): few rows of many
    dimensions, as a VGG's 4,096, cost what their number does.
    """
    few = len(sample) < sample.shape[1]
    product = sample @ sample.T if few else sample.T @ sample
    if len(product) > max(WHOLE, 2 * count):
        found = eigsh(product.numpy(), count, which="LA", v0=np.ones(len(product)))
        squares, vectors = map(torch.from_numpy, found)
    else:
        squares, vectors = torch.linalg.eigh(product)
    squares, vectors = squares[-count:].clamp(min=0), vectors[:, -count:]
    if few:
        real = squares > ROUNDING * squares[-1]
        squares, vectors = squares[real], normalize(sample.T @ vectors[:, real], dim=0)
    return squares / len(sample), vectors


def sampled(count: int, size: int, random: np.random.Generator) -> Indices:
    """`size` of the numbers below `count` at random, or all of them; ascending."""
    return np.sort(random.choice(count, min(size, count), replace=False))
