"""How far off the estimate of r + 1 is on sets whose number of classes is known; and k-means beside a peer.

No label is seen by the estimate. Data: those of benchmarks/image_sets.py, embedded by an encoder trained on them, and
made mixtures of classes of equal or of unequal size.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.cluster import MiniBatchKMeans

from benchmarks.image_sets import SETS, Labels, Pixels, of_each
from benchmarks.measure import machine
from benchmarks.mixed import train
from tamis.curation.classes import A_CENTRE, estimate_classes
from tamis.curation.peaks import density_peaks
from tamis.encoders.inference import embed
from tamis.scan.nearest import assign, kmeans
from trainer.recipe import Recipe

# Classes, samples, and how many times as large as the smallest class the largest is.
MIXTURES = ((2, 4000, 1), (2, 4000, 20), (10, 10_000, 20), (100, 20_000, 20), (1000, 65_000, 1), (1000, 200_000, 20))
STEPS = 400

Points = npt.NDArray[np.float32]


def run(
    count: int = 10_000,
    seeds: int = 3,
    sets: Sequence[str] = tuple(SETS),
    steps: int = STEPS,
    points: int = 1_000_000,
    dimension: int = 256,
    clusters: int = 1000,
) -> Iterator[tuple[str, Any]]:
    """Yields the estimates of each set over encoder seeds and of each mixture over seeds, with their intervals; then
    the seconds and the distortion of k-means.

    count: images of each set at most. steps: of each encoder's training. points, dimension, clusters: of k-means.
    """
    yield "machine", machine()

    def of_set(name: str, pixels: Pixels, labels: Labels) -> Iterator[tuple[str, Any]]:
        encoded = [embed(train(pixels, Recipe(seed=seed), steps), pixels) for seed in range(seeds)]
        yield name, _estimates(encoded, len(np.unique(labels)))

    yield from of_each(sets, count, of_set)
    for classes, samples, times in MIXTURES:
        made = [mixture(classes, samples, times, seed=seed) for seed in range(seeds)]
        yield f"mixture, sizes 1 to {times}, {samples} samples", _estimates(made, classes)
    if points:
        yield "k-means", _clustering(mixture(clusters, points, 1, dimension), clusters)


def mixture(classes: int, count: int, times: float, dimension: int = 64, seed: int = 0) -> Points:
    """Points of classes about random directions; the largest class is `times` as large as the smallest."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((classes, dimension), np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    sizes = np.geomspace(1, times, classes)
    labels = random.choice(classes, count, p=sizes / sizes.sum())
    points: Points = centres[labels] + random.standard_normal((count, dimension), np.float32) / np.float32(
        np.sqrt(dimension)
    )
    return points


def _estimates(embeddings: Sequence[Points], classes: int) -> dict[str, Any]:
    began = time.perf_counter()
    found = [estimate_classes(each, seed=seed) for seed, each in enumerate(embeddings)]
    return {
        "classes": classes,
        "estimates": [one.classes for one in found],
        "intervals": [[one.criteria["at_least"], one.criteria["at_most"]] for one in found],
        "seconds": round((time.perf_counter() - began) / len(found), 1),
    }


def _clustering(points: Points, clusters: int) -> dict[str, Any]:
    """Ours as `estimate_classes` does it: centres from a sample, every point assigned to one."""

    def ours() -> Points:
        drawn = np.random.default_rng(0).choice(len(points), min(len(points), A_CENTRE * clusters), replace=False)
        sample = points[np.sort(drawn)]
        return kmeans(sample, clusters, 0, sample[density_peaks(sample, clusters).places])

    def peer() -> Points:
        return np.asarray(MiniBatchKMeans(clusters, random_state=0).fit(points).cluster_centers_, np.float32)

    found = {"ours": _figures(ours, points), "MiniBatchKMeans": _figures(peer, points)}
    ratios = {key: found["MiniBatchKMeans"][key] / found["ours"][key] for key in ("seconds", "distortion")}
    return {"points": len(points), "dimension": points.shape[1], "clusters": clusters, **found, "times ours": ratios}


def _figures(work: Callable[[], Points], points: Points) -> dict[str, float]:
    """distortion: the mean squared distance of a point to its centre."""
    began = time.perf_counter()
    centres = work()
    labels = assign(points, centres)
    took = time.perf_counter() - began
    blocks = (slice(start, start + 65_536) for start in range(0, len(points), 65_536))
    squares = sum(float(((points[block] - centres[labels[block]]) ** 2).sum(dtype=np.float64)) for block in blocks)
    return {"seconds": round(took, 2), "distortion": squares / len(points)}
