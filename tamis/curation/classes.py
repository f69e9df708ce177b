"""The number of classes r+1 and a cluster for each sample, without labels."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median_low
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from tamis.curation.space import Whitened, sampled
from tamis.errors import InputError
from tamis.scan.rows import Embeddings, Rows, as_rows

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]

MAX_CLASSES = 32
CRITERIA_SAMPLE = 2000
FULL_KMEANS = 20_000
GRAPH_NEIGHBOURS = 15
# Tibshirani and Walther's threshold: the largest k whose prediction strength reaches it.
STRENGTH = 0.8
# Measured: without, the criteria find too few classes on Fashion-MNIST; with twice as much, too many on digits.
WHITENING = 0.25


@dataclass(frozen=True)
class ClassEstimate:
    """classes: r+1. labels: (N,) int32, each sample's cluster. criteria: what each criterion chose; empty if given."""

    classes: int
    labels: Labels
    criteria: dict[str, int]


def estimate_classes(
    embeddings: "Embeddings | Rows", classes: int | Literal["auto"] = "auto", seed: int = 0
) -> ClassEstimate:
    """Clusters the samples by k-means on the unit sphere of partly whitened components (see `space.py`), into
    `classes` or as many as three criteria agree on.

    The criteria look at no more than 2,000 samples, so that their cost does not grow with N:
    the mean silhouette (Rousseeuw 1987), its maximum over k;
    the eigengap of the normalised Laplacian of the neighbour graph (von Luxburg 2007, section 8.3), the largest gap;
    the prediction strength (Tibshirani and Walther 2005), the largest k that reaches 0.8.
    Decision rule: the median of the three.

    Raises InputError when `classes` is not between 2 and N.
    """
    rows = as_rows(embeddings)
    count = len(rows)
    if classes != "auto" and not 2 <= classes <= count:
        raise InputError(f"classes is {classes}.", f"Use auto or 2 to {count}, the number of samples.")
    # With several threads k-means adds up in no fixed order, and equal runs would give unequal bits.
    with threadpool_limits(1):
        space = Whitened(rows, WHITENING, seed)
        criteria = _criteria(_sample(rows, space, CRITERIA_SAMPLE, seed), seed) if classes == "auto" else {}
        number = median_low(criteria.values()) if classes == "auto" else classes
        return ClassEstimate(number, _cluster(rows, space, number, seed), criteria)


def _sample(rows: Rows, space: Whitened, size: int, seed: int) -> Floats:
    block: Floats = space(rows, sampled(len(rows), size, np.random.default_rng(seed))).numpy()
    return block


def _cluster(rows: Rows, space: Whitened, classes: int, seed: int) -> Labels:
    fitted: Any
    if len(rows) <= FULL_KMEANS:
        fitted = KMeans(classes, n_init=5, random_state=seed).fit(_sample(rows, space, len(rows), seed))
    else:
        sample = _sample(rows, space, FULL_KMEANS, seed)
        fitted = MiniBatchKMeans(classes, n_init=5, batch_size=4096, random_state=seed).fit(sample)
    return np.concatenate([fitted.predict(space(rows, part).numpy()) for part in rows.blocks()]).astype(np.int32)


def _criteria(sample: Floats, seed: int) -> dict[str, int]:
    most = min(MAX_CLASSES, max(2, len(sample) // 8), len(np.unique(sample, axis=0)) - 1)
    candidates = range(2, max(2, most) + 1)
    return {
        "silhouette": _best(candidates, lambda k: _silhouette(sample, k, seed)),
        "eigengap": _eigengap(sample, candidates),
        "prediction_strength": _largest_strong(sample, candidates, seed),
    }


def _best(candidates: range, score: Callable[[int], float]) -> int:
    return max(candidates, key=lambda k: (score(k), -k))


def _silhouette(sample: Floats, k: int, seed: int) -> float:
    labels = KMeans(k, n_init=2, random_state=seed).fit_predict(sample)
    return float(silhouette_score(sample, labels)) if 2 <= len(np.unique(labels)) < len(sample) else -1.0


def _eigengap(sample: Floats, candidates: range) -> int:
    """The k after which the eigenvalues of the neighbour graph's normalised adjacency fall most."""
    neighbours = min(GRAPH_NEIGHBOURS, len(sample) - 1)
    graph = NearestNeighbors(n_neighbors=neighbours).fit(sample).kneighbors_graph().toarray()
    adjacency = np.maximum(graph, graph.T)
    scale = 1.0 / np.sqrt(adjacency.sum(1))
    values = np.sort(np.linalg.eigvalsh(adjacency * scale[:, None] * scale[None, :]))[::-1]
    gaps = values[:-1] - values[1:]
    return max((k for k in candidates if k <= len(gaps)), key=lambda k: (gaps[k - 1], -k))


def _largest_strong(sample: Floats, candidates: range, seed: int) -> int:
    order = np.random.default_rng(seed).permutation(len(sample))
    halves = sample[order[::2]], sample[order[1::2]]
    strong = [k for k in candidates if k <= len(halves[1]) and _strength(halves, k, seed) >= STRENGTH]
    return max(strong, default=candidates[0])


def _strength(halves: tuple[Floats, Floats], k: int, seed: int) -> float:
    """The worst cluster's share of pairs in one half that the other half's centres keep together."""
    centres = KMeans(k, n_init=2, random_state=seed).fit(halves[0])
    own = KMeans(k, n_init=2, random_state=seed).fit_predict(halves[1])
    foreign = centres.predict(halves[1])
    shares = []
    for cluster in range(k):
        members = foreign[own == cluster]
        if len(members) > 1:
            together = (np.bincount(members).astype(np.float64) ** 2).sum() - len(members)
            shares.append(together / (len(members) * (len(members) - 1)))
    return float(min(shares, default=0.0))
