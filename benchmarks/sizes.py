"""What the small network finds with the default score, and what it costs, by the size of the images it is shown."""

import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import mean, median
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.image_sets import OWN_SIZES, SETS, Labels, Pixels, load
from benchmarks.mixed import CONDITIONS, embedded_blends, mistakes, mix, train
from tamis.curation.blends import blend_score
from tamis.encoders.encoder import Encoder, build_encoder
from tamis.encoders.inference import embed
from tamis.encoders.spec import EncoderSpec
from tamis.scan.rows import Rows
from trainer.recipe import Recipe

SIZES = (24, 32, 40, 64)
MEANS = ("mixed", "neighbour of another class", "probe mistakes", "seconds", "seconds_a_step")


def by_size(
    sizes: Sequence[int | None],
    recipes: Sequence[Recipe],
    steps: int,
    count: int = 3000,
    sets: Sequence[str] = tuple(SETS),
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields figures of each set at each size, then their means over the sets.

    sizes: None stands for each set's own. recipes: one for each encoder, of different seeds. count: images of a
    set at most. `mixed` is the AUROC of finding mixed images, the mean of all conditions and seeds;
    the others are of clean images, with the share of them that the neighbour's class and a linear probe get right.
    A step's time is the least and the median over all trainings, and `seconds` the mean of a whole training.
    """
    for size in sizes:
        found = []
        for name in sets:
            loaded = load(name, count, size)
            if loaded is not None:
                found.append(_figures(*loaded, recipes, steps))
                yield f"{name} at {size or OWN_SIZES[name]}", found[-1]
        if found:
            yield f"mean at {size or 'own sizes'}", {key: round(mean(one[key] for one in found), 4) for key in MEANS}


def network_cost(size: int, architecture: str = "small") -> dict[str, float]:
    """Millions of multiplications an image, each with its addition, and of parameters."""
    encoder = build_encoder(EncoderSpec(architecture, size), 0).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        encoder(torch.zeros(1, 3, size, size))
    weights = sum(parameter.numel() for parameter in encoder.parameters())
    return {"multiplications": round(counter.get_total_flops() / 2e6, 1), "parameters": round(weights / 1e6, 2)}


def _figures(
    pixels: Pixels,
    labels: Labels,
    recipes: Sequence[Recipe],
    steps: int,
) -> dict[str, Any]:
    mixed: dict[str, list[float]] = {}
    clean: dict[str, list[float]] = {}
    trained: list[list[float]] = []
    for recipe in recipes:
        for share, weight in CONDITIONS:
            images, truth = mix(pixels, labels, share, weight, recipe.seed)
            encoder = _timed(images, recipe, steps, trained)
            score = _score(encoder, images, recipe.seed)[0]
            mixed.setdefault(f"{share:.0%}, weight {weight}", []).append(float(roc_auc_score(truth, score)))
        encoder = _timed(pixels, recipe, steps, trained)
        score, unit = _score(encoder, pixels, recipe.seed)
        for title, wrong in mistakes(unit, labels).items():
            clean.setdefault(title, []).append(float(roc_auc_score(wrong, score)))
            clean.setdefault(f"{title}, right", []).append(1 - float(wrong.mean()))
    durations = [after - before for times in trained for before, after in pairwise(times)]
    conditions_found = {title: round(mean(values), 4) for title, values in mixed.items()}
    return {
        "mixed": round(mean(conditions_found.values()), 4),
        "conditions": conditions_found,
        **{title: round(mean(values), 4) for title, values in clean.items()},
        "seconds": round(mean(times[-1] - times[0] for times in trained), 1),
        "seconds_a_step": round(min(durations), 4),
        "seconds_a_step_median": round(median(durations), 4),
        **network_cost(pixels.shape[2]),
    }


def _timed(pixels: Pixels, recipe: Recipe, steps: int, trained: list[list[float]]) -> Encoder:
    times = [time.perf_counter()]
    trained.append(times)
    return train(pixels, recipe, steps, lambda done, total: times.append(time.perf_counter()))


def _score(encoder: Encoder, pixels: Pixels, seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Each image's difficulty, and its unit features."""
    rows = Rows(embed(encoder, pixels))
    return blend_score(rows, embedded_blends(encoder, pixels, seed), seed), rows.unit(slice(0, len(pixels))).numpy()
