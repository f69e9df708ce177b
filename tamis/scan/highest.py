"""The k highest of many products, as the products are made: of nearest neighbours, exact or among a few lists.

The products are PyTorch's, one thread each: so their bits do not depend on the number of threads, and no library's own
matrix product need fit the processor (that of faiss-cpu 1.15 has no code for some newer than itself).
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch

from tamis.scan.cpu_kernels import Array, compiled

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

# Rows of a product, and columns; fixed, for a product's last bit may vary with its shape.
QUERIES, TILE = 1024, 4096


def highest(
    queries: torch.Tensor,
    own: Indices,
    tiles: Iterable[tuple[Indices, torch.Tensor]],
    k: int,
    *,
    distance: bool = False,
) -> tuple[Floats, Indices]:
    """Of each query the k points with the highest products: (n, k) float32, descending, and their (n, k) int64
    numbers; -inf and -1 where there are fewer.

    queries: (n, d) float32. own: (n,) the number of each among the points, which is left out; -1 for none. tiles: the
    points' numbers (m,) and themselves (m, d) float32, a tile at a time. distance: take half of a point's squared
    length off its product, so that the highest are the nearest.
    """
    values, found = np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), -1, np.int64)
    for numbers, points in tiles:
        products = queries @ points.T
        if distance:
            products -= half_squares(points)
        _take_up(products.numpy(), own, numbers, values, found)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(values, order, 1), np.take_along_axis(found, order, 1)


def half_squares(points: torch.Tensor) -> torch.Tensor:
    """(n,) half of each point's squared length."""
    return torch.einsum("nd,nd->n", points, points) / 2


@compiled
def _take_up(products: Array, own: Array, numbers: Array, values: Array, found: Array) -> None:
    """Puts a tile's products among each row's highest so far: a heap, whose first is the least."""
    k = values.shape[1]
    for row in range(products.shape[0]):
        least = values[row, 0]
        for column in range(products.shape[1]):
            value = products[row, column]
            if value > least and numbers[column] != own[row]:
                place, child = 0, 1
                while child < k:
                    if child + 1 < k and values[row, child + 1] < values[row, child]:
                        child += 1
                    if values[row, child] >= value:
                        break
                    values[row, place], found[row, place] = values[row, child], found[row, child]
                    place, child = child, 2 * child + 1
                values[row, place], found[row, place] = value, numbers[column]
                least = values[row, 0]
