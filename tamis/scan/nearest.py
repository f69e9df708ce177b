"""Nearest neighbours and k-means, the latter by FAISS (Douze et al. 2024): the one module that knows it.

Points are (n, d) float32 in memory. FAISS adds up in an order of its own for each number of threads' share of the rows,
never of a row, so that its results do not depend on how many threads there are.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tamis.errors import InputError
from tamis.scan.highest import QUERIES, TILE, half_squares, highest
from tamis.scan.rows import Rows
from tamis.scan.threads import in_parallel, threads

Points = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

# With so few centres, that several beginnings are tried costs little beside all else.
FEW, BEGINNINGS = 64, 5
ITERATIONS = 20
# Samples that the centre of an inverted file's list is learnt from, and in how many turns.
A_LIST, LIST_ITERATIONS = 40, 10
# Points for each centre among which the first ones are drawn.
POOL = 16
# The variable by which OpenBLAS is told the kind of processor.
BLAS = "OPENBLAS_CORETYPE"


def nearest(points: Points, k: int) -> tuple[Points, Indices]:
    """Each point's k nearest others, by an exact search: (n, k) float32 distances, ascending, and (n, k) int64.

    k: less than n.
    """
    whole, numbers = torch.from_numpy(points), np.arange(len(points))
    squares, found = np.empty((len(points), k), np.float32), np.empty((len(points), k), np.int64)

    def search(start: int, _: None) -> None:
        own = numbers[start : start + QUERIES]
        tiles = ((numbers[at : at + TILE], whole[at : at + TILE]) for at in range(0, len(points), TILE))
        queries = whole[start : start + QUERIES]
        products, found[own] = highest(queries, own, tiles, k, distance=True)
        squares[own] = 2 * (half_squares(queries).numpy()[:, None] - products)

    in_parallel(search, range(0, len(points), QUERIES), threads())
    return np.sqrt(np.maximum(squares, 0)), found


def kmeans(points: Points, k: int, seed: int, centres: Points | None = None) -> Points:
    """(k, d) float32, the centres of k clusters (Lloyd's algorithm): the best of several beginnings, or of one where k
    is large, at points far apart (k-means++, Arthur and Vassilvitskii 2007), and of one at `centres`, of which there
    may be fewer: then at points far from these too.

    A centre that nothing is near to begins anew beside another. Raises InputError for fewer than k different points.
    """
    if k > len(points) or (k > 1 and len(np.unique(points, axis=0)) < k):
        raise InputError(f"Fewer than {k} samples differ.", "Ask for fewer classes.")
    random = np.random.default_rng((seed, 4))
    none = points[:0]
    beginnings = [none] * (BEGINNINGS if k <= FEW else centres is None) + ([] if centres is None else [centres])
    tries = [_lloyd(points, k, ITERATIONS, _far_apart(points, k, begun, random)) for begun in beginnings]
    return min(tries, key=lambda found: float(_nearest_centre(points, found)[0].sum(dtype=np.float64)))


def assign(points: Points, centres: Points) -> npt.NDArray[np.int32]:
    """(n,) int32, the centre that each point is nearest to."""
    return _nearest_centre(points, centres)[1].astype(np.int32)


def list_centres(rows: Rows, seed: int) -> Points:
    """(L, d) float32 of length one, the centres of an inverted file's lists, as many as the root of the number of
    samples: by spherical k-means of a part of these."""
    count = int(len(rows) ** 0.5)
    random = np.random.default_rng((seed, 6))
    points = rows.unit(np.sort(random.choice(len(rows), min(len(rows), A_LIST * count), replace=False))).numpy()
    return _lloyd(points, count, LIST_ITERATIONS, None, spherical=True)


def _far_apart(points: Points, k: int, begun: Points, random: np.random.Generator) -> Points:
    """(k, d): those begun with, and points of which each is drawn by its squared distance to all before it."""
    pool = points[random.choice(len(points), min(len(points), POOL * k), replace=False)]
    chosen = [*begun[:k]] or [pool[random.integers(len(pool))]]
    squares = np.full(len(pool), np.inf, np.float32)
    lengths = np.einsum("id,id->i", pool, pool)
    for place in range(k - 1):
        squares = np.minimum(
            squares, np.maximum(lengths - 2 * (pool @ chosen[place]) + chosen[place] @ chosen[place], 0)
        )
        if place + 1 == len(chosen):
            reached = np.cumsum(squares, dtype=np.float64)
            drawn = np.searchsorted(reached, random.random() * reached[-1], "right")
            chosen.append(pool[min(int(drawn), len(pool) - 1)])
    return np.stack(chosen)


def _lloyd(points: Points, k: int, iterations: int, begun: Points | None, *, spherical: bool = False) -> Points:
    """begun: (k, d), or None to begin at random points."""
    faiss = _faiss()
    clustering = faiss.Kmeans(
        points.shape[1],
        k,
        niter=iterations,
        spherical=spherical,
        # All that is given is used, and no warning says that it is little.
        min_points_per_centroid=1,
        max_points_per_centroid=len(points),
        # A build for GPUs that finds none works on the CPU.
        gpu=faiss.get_num_gpus() > 0,
    )
    clustering.train(points, init_centroids=begun)
    found: Points = clustering.centroids
    return found


def _nearest_centre(points: Points, centres: Points) -> tuple[Points, Indices]:
    """(n,) float32 squared distances, and (n,) int64."""
    squares, found = np.empty(len(points), np.float32), np.empty(len(points), np.int64)
    others = torch.from_numpy(centres)
    lengths = half_squares(others)

    def search(start: int, _: None) -> None:
        part = slice(start, start + QUERIES)
        queries = torch.from_numpy(points[part])
        products, nearest = (queries @ others.T - lengths).max(1)
        squares[part], found[part] = np.maximum(2 * (half_squares(queries) - products).numpy(), 0), nearest.numpy()

    in_parallel(search, range(0, len(points), QUERIES), threads())
    return squares, found


def _faiss() -> Any:
    try:
        with _blas_of_this_processor():
            import faiss
    except ImportError as error:
        raise InputError(
            "FAISS is not installed.", "Type: pip install 'tamis[cpu]', or 'tamis[gpu]' on a machine with a GPU."
        ) from error
    return faiss


@contextmanager
def _blas_of_this_processor() -> Iterator[None]:
    """Tells the OpenBLAS 0.3.15 in FAISS's wheel what this processor computes: one that is newer than itself it takes
    for one of 2004. It asks when it is loaded; other libraries and processes are told nothing."""
    able = torch.cpu.get_capabilities()
    kind = "SkylakeX" if able.get("avx512_vl") else "Haswell" if able.get("avx2") else None
    if kind is None or BLAS in os.environ:
        yield
        return
    os.environ[BLAS] = kind
    try:
        yield
    finally:
        del os.environ[BLAS]
