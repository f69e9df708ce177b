"""How far off the estimate of r + 1 is on sets whose number of classes is known, and how much depends on it.

Features are pixels: no training, so that the figures can be had anywhere. The labels only score.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

import tamis
from tamis.commands.demo import FASHION_MNIST
from tamis.curation.classes import estimate_classes

SEEDS = range(5)
POS_HIGH = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4)


def run(count: int = 10_000) -> Iterator[tuple[str, Any]]:
    """Yields, for each set, the estimates over seeds and the agreement of what is removed over choices of pos_high."""
    for name, features, classes in _sets(count):
        estimates = [estimate_classes(features, seed=seed) for seed in SEEDS]
        yield (
            f"{name}: estimates",
            {
                "classes": classes,
                "estimates": [found.classes for found in estimates],
                **{
                    criterion: [found.criteria[criterion] for found in estimates] for criterion in estimates[0].criteria
                },
            },
        )
        yield f"{name}: pos_high", _sweep(features, classes)


def _sweep(features: npt.NDArray[np.float32], classes: int) -> dict[str, Any]:
    """For each pos_high, which share of the 10% most difficult samples is also among those at 1 / classes."""
    base = tamis.curate(features, classes=classes, score="band")
    most = set(np.argsort(-base.difficulty)[: len(features) // 10].tolist())
    shares = {}
    for pos_high in POS_HIGH:
        other = np.argsort(-base.recut(pos_high=pos_high).difficulty)[: len(features) // 10].tolist()
        shares[pos_high] = len(most.intersection(other)) / len(most)
    return {"agreement_with_1_over_classes": shares}


def _sets(count: int) -> Iterator[tuple[str, npt.NDArray[np.float32], int]]:
    digits = load_digits()
    yield "digits", digits.data.astype(np.float32), 10
    if FASHION_MNIST.is_dir():
        import io

        from PIL import Image

        from tamis.sources import RawSample, open_source

        samples = (s for s in open_source(FASHION_MNIST / "train-images-idx3-ubyte.gz") if isinstance(s, RawSample))
        pixels = [np.asarray(Image.open(io.BytesIO(s.data))).ravel() for s in islice(samples, count)]
        yield "fashion-mnist", np.stack(pixels).astype(np.float32), 10
