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
# Of the largest eigenvalue: what is less may be one of zero, rounded.
ROUNDING = 1e-12


class Whitened:
    """Takes rows to (n, COMPONENTS or fewer) float32 of length one.

    Each of the leading principal components of the unit rows is divided by a power of its standard deviation: no few of
    them outweigh the rest, as they do in raw features. power: 1 would blow up all to one size, 0 leave them as is.
    """

    def __init__(self, rows: Rows, power: float, seed: int) -> None:
        sample = rows.unit(sampled(len(rows), COVARIANCE_SAMPLE, np.random.default_rng((seed, 0)))).double()
        mean = sample.mean(0)
        squares, directions = leading_directions(sample - mean, COMPONENTS)
        kept = squares > LEAST_VARIANCE * squares[-1:]
        scale = (squares[kept] / len(sample)) ** (power / 2)
        self._mean, self._scale, self._map = mean.float(), scale.float(), (directions[:, kept] / scale).float()

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


def leading_directions(points: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Along which (n, d) float64 points reach furthest: the `count` largest eigenvalues of their second moments, the
    sums of squares there, ascending, and the (d, count) directions, of length one.

    Of fewer points than dimensions the points' own products have the same eigenvalues, and tell the directions in time
    that does not grow with d cubed; then there are no more directions than the points span.
    """
    if len(points) >= points.shape[1]:
        squares, directions = torch.linalg.eigh(points.T @ points)
        return squares[-count:], directions[:, -count:]
    squares, weights = torch.linalg.eigh(points @ points.T)
    spanned = torch.nonzero(squares > ROUNDING * squares[-1]).flatten()[-count:]
    return squares[spanned], points.T @ (weights[:, spanned] / squares[spanned].sqrt())


def sampled(count: int, size: int, random: np.random.Generator) -> Indices:
    """`size` of the numbers below `count` at random, or all of them; ascending."""
    return np.sort(random.choice(count, min(size, count), replace=False))
