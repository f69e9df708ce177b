"""How well wrong labels are found: one in twenty flipped, by the votes of a report and by cleanlab.

Data: those of benchmarks/image_sets.py. cleanlab is given what its documentation asks for, probabilities of samples by
a model that did not learn from them: here logistic regression in five folds, on features of the same encoder.
"""

from collections.abc import Iterator, Sequence
from statistics import mean, stdev
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.image_sets import Labels, Pixels, of_each
from benchmarks.measure import machine
from benchmarks.mixed import train
from tamis.curation.features import band_features
from tamis.encoders.inference import embed
from tamis.report.labels import MOST, votes
from tamis.scan.rows import Rows
from trainer.recipe import Recipe

FLIPPED = 0.05


def run(
    count: int = 2000, seeds: int = 3, steps: int = 100, sets: Sequence[str] = ("digits", "fashion-mnist")
) -> Iterator[tuple[str, Any]]:
    """Yields, for each set, mean and standard deviation over encoder seeds: the AUROC of finding the flipped labels;
    and of those that are called in doubt how many there are, which share of them is flipped, and which share of the
    flipped they are."""
    yield "machine", machine()
    yield "recipe", {"images": count, "steps": steps, "seeds": seeds, "flipped": FLIPPED}

    def of_set(name: str, pixels: Pixels, labels: Labels) -> Iterator[tuple[str, Any]]:
        found = [_figures(pixels, labels, seed, steps) for seed in range(seeds)]
        for title in found[0]:
            yield f"{name}, {title}", {key: _spread([each[title][key] for each in found]) for key in found[0][title]}

    yield from of_each(sets, count, of_set)


def _figures(pixels: Pixels, labels: Labels, seed: int, steps: int) -> dict[str, dict[str, float]]:
    # Optional: an extra of its own.
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    features = embed(train(pixels, Recipe(seed=seed), steps), pixels)
    given, wrong = _flip(labels, seed)
    ours = votes(band_features(Rows(features), seed), given, np.arange(len(given)))
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    probable = cross_val_predict(probe, features, given, cv=5, method="predict_proba")
    quality = get_label_quality_scores(given, probable)
    return {
        "votes": _found(wrong, -ours.own, ours.other > MOST),
        "cleanlab": _found(wrong, -quality, find_label_issues(given, probable)),
    }


def _flip(labels: Labels, seed: int) -> tuple[Labels, Any]:
    """The labels with some of them made another one by chance, and which."""
    random = np.random.default_rng(seed)
    wrong = np.zeros(len(labels), bool)
    wrong[random.choice(len(labels), round(FLIPPED * len(labels)), replace=False)] = True
    classes = int(labels.max()) + 1
    return np.where(wrong, (labels + random.integers(1, classes, len(labels))) % classes, labels), wrong


def _found(wrong: Any, score: Any, doubted: Any) -> dict[str, float]:
    return {
        "auroc": float(roc_auc_score(wrong, score)),
        "doubted": float(doubted.sum()),
        "precision": float(wrong[doubted].mean()),
        "recall": float(doubted[wrong].mean()),
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"mean": round(mean(values), 4), "sd": round(stdev(values), 4) if len(values) > 1 else 0.0}
