"""Passes over the samples that may be drawn, each about as often as its weight says."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tamis.errors import InputError

Indices: TypeAlias = npt.NDArray[np.int64]


def drawable(
    samples: int, keep: npt.NDArray[np.bool_] | None, weight: npt.NDArray[np.float32] | None
) -> tuple[Indices, npt.NDArray[np.float64]]:
    """The samples that may be drawn, of so many: those that are kept and weigh something; and their weights.

    keep, weight: (samples,), or None for all alike. Raises InputError for weights that are negative or not finite.
    """
    weights = np.ones(samples) if weight is None else np.asarray(weight, np.float64)
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise InputError("The manifest holds weights that are negative or not finite.", "Write the manifest again.")
    kept = np.flatnonzero((weights > 0) & (True if keep is None else keep))
    return kept, weights[kept]


def one_pass(kept: Indices, weights: npt.NDArray[np.float64], seed: int, number: int) -> Indices:
    """As many samples as are kept, in the order of the pass of this number.

    They are drawn by systematic resampling: each about as often as its weight says, and exactly once when the weights
    are equal.
    """
    random = np.random.default_rng((seed, number))
    cumulative = np.cumsum(weights)
    points = (random.random() + np.arange(len(kept))) * (cumulative[-1] / len(kept))
    places = np.minimum(np.searchsorted(cumulative, points, side="right"), len(kept) - 1)
    return kept[random.permutation(places)]
