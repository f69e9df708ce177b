"""Nearest neighbours and k-means by FAISS (Douze et al. 2024): the one module that knows it.

Points are (n, d) float32 in memory. FAISS adds up in an order of its own for each number of threads' share of the rows,
never of a row, so that its results do not depend on how many threads there are.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from tamis.errors import InputError
from tamis.scan.rows import Rows

Points = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

# With so few centres, that several beginnings are tried costs little beside all else.
FEW, BEGINNINGS = 64, 5
ITERATIONS = 20
# Samples that are all compared, as that takes seconds; and of a larger index samples to learn a list from, those that
# measure the recall, what it must reach, and the lists that are looked into at first.
EXACT_UP_TO, A_LIST, CHECKED, RECALL, FIRST_PROBES = 16_384, 40, 1000, 0.95, 8
# Points for each centre among which the first ones are drawn.
POOL = 16


def nearest(points: Points, k: int) -> tuple[Points, Indices]:
    """Each point's k nearest others, by an exact search: (n, k) float32 distances, ascending, and (n, k) int64.

    k: less than n.
    """
    index = _faiss().IndexFlatL2(points.shape[1])
    index.add(points)
    squares, found = index.search(points, k + 1)
    others, shape = _are_others(found, np.arange(len(points))), (len(points), k)
    return np.sqrt(np.maximum(squares[others].reshape(shape), 0)), found[others].reshape(shape)


def alike(rows: Rows, k: int, seed: int) -> tuple[Indices, float]:
    """Each sample's k most similar others by cosine similarity: (N, k) int64, -1 where fewer are found; and the recall.

    All are compared up to EXACT_UP_TO samples; beyond, an inverted file of half-precision rows looks into as many of
    its lists as the asked RECALL takes, which is measured on CHECKED random samples against an exact search.
    """
    faiss, count = _faiss(), len(rows)
    if count <= EXACT_UP_TO:
        index = faiss.IndexFlatIP(rows.dimension)
    else:
        lists = int(2 * count**0.5)
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(rows.dimension),
            rows.dimension,
            lists,
            faiss.ScalarQuantizer.QT_fp16,
            faiss.METRIC_INNER_PRODUCT,
        )
        index.cp.min_points_per_centroid, index.cp.niter = 1, ITERATIONS // 2
        random = np.random.default_rng((seed, 6))
        index.train(rows.unit(np.sort(random.choice(count, min(count, A_LIST * lists), replace=False))).numpy())
    for part in rows.blocks():
        index.add(rows.unit(part).numpy())
    recall = 1.0
    if count > EXACT_UP_TO:
        recall = _probe(index, rows, k, np.sort(random.choice(count, CHECKED, replace=False)))
    return np.concatenate([_others(index, rows, part, k) for part in rows.blocks()]), recall


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
    tries = [_lloyd(points, _far_apart(points, k, begun, random)) for begun in beginnings]
    return min(tries, key=lambda found: float(_nearest_centre(points, found)[0].sum(dtype=np.float64)))


def assign(points: Points, centres: Points) -> npt.NDArray[np.int32]:
    """(n,) int32, the centre that each point is nearest to."""
    return _nearest_centre(points, centres)[1].astype(np.int32)


def _probe(index: Any, rows: Rows, k: int, checked: Indices) -> float:
    """Has the index look into as many lists as the recall takes, or all; returns the recall."""
    queries = rows.unit(checked)
    best_similarity = np.full((len(checked), k), -np.inf, np.float32)
    best = np.full((len(checked), k), -1, np.int64)
    for part in rows.blocks():
        products = (queries @ rows.unit(part).T).numpy()
        products[np.arange(part.start, part.stop) == checked[:, None]] = -np.inf
        both = np.concatenate([best_similarity, products], axis=1)
        names = np.concatenate([best, np.broadcast_to(np.arange(part.start, part.stop), products.shape)], axis=1)
        kept = np.argpartition(-both, k - 1, axis=1)[:, :k]
        best_similarity, best = np.take_along_axis(both, kept, 1), np.take_along_axis(names, kept, 1)
    index.nprobe, recall = FIRST_PROBES, 0.0
    while True:
        found = _others(index, rows, checked, k)
        hits = sum(len(np.intersect1d(*both)) for both in zip(found, best, strict=True))
        recall = hits / best.size
        if recall >= RECALL or index.nprobe >= index.nlist:
            return float(recall)
        index.nprobe = min(2 * index.nprobe, index.nlist)


def _others(index: Any, rows: Rows, which: "slice | Indices", k: int) -> Indices:
    """What is nearest to samples, without these."""
    own = np.arange(which.start, which.stop) if isinstance(which, slice) else which
    found: Indices = index.search(rows.unit(which).numpy(), k + 1)[1]
    others: Indices = found[_are_others(found, own)].reshape(len(found), k)
    return others


def _are_others(found: Indices, own: Indices) -> npt.NDArray[np.bool_]:
    """(n, k + 1), k a row: what is not the point itself, or all but the farthest."""
    # A point need not be the first of what is at its own place; it may even be none of the k + 1.
    itself: npt.NDArray[np.bool_] = found == own[:, None]
    itself[~itself.any(1), -1] = True
    return ~itself


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


def _lloyd(points: Points, centres: Points) -> Points:
    clustering = _faiss().Kmeans(
        points.shape[1],
        len(centres),
        niter=ITERATIONS,
        # All that is given is used, and no warning says that it is little.
        min_points_per_centroid=1,
        max_points_per_centroid=len(points),
    )
    clustering.train(points, init_centroids=centres)
    found: Points = clustering.centroids
    return found


def _nearest_centre(points: Points, centres: Points) -> tuple[Points, Indices]:
    index = _faiss().IndexFlatL2(points.shape[1])
    index.add(centres)
    squares, found = index.search(points, 1)
    return squares[:, 0], found[:, 0]


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise InputError(
            "FAISS is not installed.", "Type: pip install 'tamis[cpu]', or 'tamis[gpu]' on a machine with a GPU."
        ) from error
    return faiss
