"""How well scores find difficult samples, and flags difficult pairs: Tamis's beside others, over encoder seeds.

Two kinds of truth, neither of which any score sees: images that were mixed of two classes, and held-back labels of
clean images. Data: those of benchmarks/image_sets.py.
"""

from collections.abc import Iterator, Sequence
from statistics import mean, stdev
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

import tamis
from benchmarks.image_sets import SETS, Labels, Pixels, of_each
from benchmarks.measure import machine, seconds
from benchmarks.mixed import CONDITIONS, embedded_blends, mistakes, mix, train
from benchmarks.peers import PEERS, Study
from benchmarks.recorded import Recorder, recorded_losses
from benchmarks.scan import clustered
from benchmarks.sizes import by_size
from tamis.curation.blends import Blends, blend_score, draw_parents
from tamis.curation.difficulty import distinct_pairs
from tamis.encoders.inference import embed
from tamis.scan.rows import Rows
from trainer.recipe import Recipe

SEEDS = 3
# Two thirds of what the simclr encoder is trained by default.
STEPS = 400
FLAGGED = 1000
# Fashion-MNIST's classes that people confuse, too: tops, and shoes.
CONFUSED = ({0, 2, 4, 6}, {5, 7, 9})
BAG = 8
Scores = dict[str, npt.NDArray[np.floating[Any]]]


def run(
    count: int = 3000,
    seeds: int = SEEDS,
    sets: Sequence[str] = tuple(SETS),
    sizes: Sequence[int] = (),
    steps: int = STEPS,
    batch_size: int = Recipe.batch_size,
) -> Iterator[tuple[str, Any]]:
    """Yields, for each set, the AUROC of each score as its mean and standard deviation over encoder seeds.

    count: images of each set at most. sizes: pixels of a side; where any are given, what the default score finds and
    what the training costs at each of them, in place of the comparison with other scores.
    """
    yield "machine", machine()
    yield "recipe", {"images": count, "steps": steps, "batch_size": batch_size, "seeds": seeds}
    recipes = [Recipe(seed=seed, batch_size=batch_size) for seed in range(seeds)]
    if sizes:
        yield from by_size(sizes, recipes, steps, count, sets)
        return

    def of_set(name: str, pixels: Pixels, labels: Labels) -> Iterator[tuple[str, Any]]:
        for share, weight in CONDITIONS:
            found = _mixed(pixels, labels, (share, weight), recipes, steps)
            yield f"{name}, {share:.0%} mixed, weight {weight}", found
        yield from _clean(name, pixels, labels, recipes, steps)

    yield from of_each(sets, count, of_set)
    yield "cost", cost()


def cost(count: int = 60_000, dimension: int = 512) -> dict[str, float]:
    """Seconds of the plain pair scan, and of the default score that is computed beside it."""
    rows = Rows(clustered(count, dimension))
    first, second = draw_parents(count, 0)
    blends = Blends(first, second, clustered(len(first), dimension, seed=1))
    tamis.pair_scan(rows.array[:9000], 64)  # compiles
    scan = seconds(lambda: tamis.pair_scan(rows.array, 64), repeats=2)
    score = seconds(lambda: blend_score(rows, blends), repeats=2)
    return {"samples": count, "dimension": dimension, "scan": scan, "score": score, "ratio": (scan + score) / scan}


def _mixed(
    pixels: Pixels, labels: Labels, condition: tuple[float, str], recipes: Sequence[Recipe], steps: int
) -> dict[str, Any]:
    found: dict[str, list[float]] = {}
    for recipe in recipes:
        images, mixed = mix(pixels, labels, *condition, recipe.seed)
        for name, score in _scores(images, recipe, steps)[0].items():
            found.setdefault(name, []).append(float(roc_auc_score(mixed, score)))
    return {name: _spread(values) for name, values in found.items()}


def _clean(
    name: str, pixels: Pixels, labels: Labels, recipes: Sequence[Recipe], steps: int
) -> Iterator[tuple[str, Any]]:
    missed: dict[str, dict[str, list[float]]] = {"neighbour of another class": {}, "probe mistakes": {}}
    precision: dict[str, list[float]] = {}
    for recipe in recipes:
        scores, study, curation = _scores(pixels, recipe, steps)
        unit = study.unit
        for kind, wrong in mistakes(unit, labels).items():
            for title, score in scores.items():
                missed[kind].setdefault(title, []).append(float(roc_auc_score(wrong, score)))
        for title, (a, b) in _pairs(curation, unit, recipe.seed).items():
            cross = labels[a] != labels[b]
            precision.setdefault(title, []).append(float(cross.mean()))
            precision.setdefault(f"{title}, mean similarity", []).append(float((unit[a] * unit[b]).sum(1).mean()))
            if name == "fashion-mnist":
                confused = np.any([np.isin(labels[a], [*g]) & np.isin(labels[b], [*g]) for g in CONFUSED], axis=0)
                bags = (labels[a] == BAG) | (labels[b] == BAG)
                precision.setdefault(f"{title}, of these tops or shoes", []).append(float(confused[cross].mean()))
                precision.setdefault(f"{title}, of these with a bag", []).append(float(bags[cross].mean()))
    for title, found in {**missed, "pairs": precision}.items():
        yield f"{name}, {title}", {key: _spread(values) for key, values in found.items()}


def _pairs(
    curation: tamis.Curation, unit: npt.NDArray[np.float32], seed: int
) -> dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """The first pairs that are flagged, the most similar ones of all, and random ones."""
    plain = tamis.pair_scan(unit, k=16)
    a, b, _ = distinct_pairs(plain.indices, plain.similarities)
    drawn = np.random.default_rng(seed).integers(len(unit), size=(2, FLAGGED))
    flagged = curation.pairs.slice(0, FLAGGED)
    return {
        "flagged": (flagged["a"].to_numpy(), flagged["b"].to_numpy()),
        "most similar": (a[:FLAGGED], b[:FLAGGED]),
        "random": (drawn[0], drawn[1]),
    }


def _scores(pixels: Pixels, recipe: Recipe, steps: int) -> tuple[Scores, Study, tamis.Curation]:
    """Every score of every image, by an encoder that is trained on these images alone."""
    seed = recipe.seed
    with patch("trainer.frameworks.simclr.InfoNCE", Recorder):
        encoder = train(pixels, recipe, steps)
        loss, forgotten = recorded_losses(len(pixels), recipe)
    features = embed(encoder, pixels)
    blends = embedded_blends(encoder, pixels, seed)
    curation = tamis.curate(features, seed=seed, blends=blends)
    if curation.classes == 1:
        # Peers of groups, and the pairs, want two at least.
        curation = tamis.curate(features, classes=2, seed=seed, blends=blends)
    unit = Rows(features).unit(slice(0, len(features))).numpy()
    study = Study(unit, curation.cluster, curation.classes, loss, forgotten, seed)
    scores: Scores = {
        "Tamis: blends": curation.difficulty,
        "Tamis: without blended images": blend_score(Rows(features), None, seed),
        "Tamis: band share": curation.recut(score="band").difficulty,
    }
    return {**scores, **{name: score(study) for name, score in PEERS.items()}}, study, curation


def _spread(values: list[float]) -> dict[str, float]:
    return {"mean": round(mean(values), 4), "sd": round(stdev(values), 4) if len(values) > 1 else 0.0}
