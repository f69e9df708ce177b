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


class Highest:
    """Of each of n queries the k points with the highest products so far."""

    def __init__(self, count: int, k: int) -> None:
        self._values = np.full((count, k), -np.inf, np.float32)
        self._found = np.full((count, k), -1, np.int64)

    def take(self, products: torch.Tensor, queries: Indices, own: Indices, numbers: Indices) -> None:
        """Takes up (m, p) float32 products of m of the queries with points of these numbers, but for each one's own."""
        _take_up(products.numpy(), queries, own, numbers, self._values, self._found)

    def ordered(self) -> tuple[Floats, Indices]:
        """(n, k) float32, descending, and (n, k) int64 the points' numbers; -inf and -1 where there are fewer."""
        order = np.argsort(-self._values, axis=1, kind="stable")
        return np.take_along_axis(self._values, order, 1), np.take_along_axis(self._found, order, 1)


def highest(
    queries: torch.Tensor,
    own: Indices,
    tiles: Iterable[tuple[Indices, torch.Tensor]],
    k: int,
    *,
    distance: bool = False,
) -> tuple[Floats, Indices]:
    """As of `Highest.ordered`, of all points.

    queries: (n, d) float32. own: (n,) the number of each among the points, which is left out; -1 for none. tiles: the
    points' numbers (m,) and themselves (m, d) float32, a tile at a time. distance: take half of a point's squared
    length off its product, so that the highest are the nearest.
    """
    best, everyone = Highest(len(queries), k), np.arange(len(queries))
    for numbers, points in tiles:
        products = queries @ points.T
        if distance:
            products -= half_squares(points)
        best.take(products, everyone, own, numbers)
    return best.ordered()


def half_squares(points: torch.Tensor) -> torch.Tensor:
    """(n,) half of each point's squared length."""
    return torch.einsum("nd,nd->n", points, points) / 2


@compiled
def _take_up(products: Array, queries: Array, own: Array, numbers: Array, values: Array, found: Array) -> None:
    """Puts products among the highest so far of each query: a heap, whose first is the least."""
    k = values.shape[1]
    for row in range(products.shape[0]):
        heap, places = values[queries[row]], found[queries[row]]
        least = heap[0]
        for column in range(products.shape[1]):
            value = products[row, column]
            if value > least and numbers[column] != own[row]:
                place, child = 0, 1
                while child < k:
                    if child + 1 < k and heap[child + 1] < heap[child]:
                        child += 1
                    if heap[child] >= value:
                        break
                    heap[place], places[place] = heap[child], places[child]
                    place, child = child, 2 * child + 1
                heap[place], places[place] = value, numbers[column]
                least = heap[0]
