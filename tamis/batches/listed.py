"""A manifest's difficult pairs looked up by batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tamis.errors import InputError
from tamis.manifest import Manifest

Floats: TypeAlias = npt.NDArray[np.float32]
Indices: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class DifficultPairs:
    """a, b: (P,) int64, the indices of a pair's samples; margin, temperature: (P,) float32, as in the manifest."""

    a: Indices
    b: Indices
    margin: Floats
    temperature: Floats

    def in_batch(self, indices: Indices) -> tuple[npt.NDArray[np.bool_], Floats, Floats]:
        """difficult (B, B) bool, margin and temperature (B, B) float32, of the samples `indices` (B,), all symmetric.

        Elsewhere the margin is 0 and the temperature 1. Costs O(pairs that touch the batch), not O(P), beside B^2.
        """
        batch, place = np.unique(indices, return_inverse=True)
        own, other, pair = self._by_sample
        first, last = np.searchsorted(own, batch, "left"), np.searchsorted(own, batch, "right")
        lengths = last - first
        touching = np.repeat(last - lengths.cumsum(), lengths) + np.arange(lengths.sum())
        row = np.repeat(np.arange(len(batch)), lengths)
        column = np.searchsorted(batch, other[touching])
        inside = batch[np.minimum(column, len(batch) - 1)] == other[touching]
        row, column, chosen = row[inside], column[inside], pair[touching[inside]]
        shape = (len(batch), len(batch))
        difficult, margin, temperature = np.zeros(shape, bool), np.zeros(shape, np.float32), np.ones(shape, np.float32)
        difficult[row, column] = True
        margin[row, column] = self.margin[chosen]
        temperature[row, column] = self.temperature[chosen]
        spread = np.ix_(place, place)
        return difficult[spread], margin[spread], temperature[spread]

    @cached_property
    def _by_sample(self) -> tuple[Indices, Indices, Indices]:
        """Each pair from both its sides, sorted by sample: the sample, its partner, the pair's number."""
        own, other = np.concatenate([self.a, self.b]), np.concatenate([self.b, self.a])
        order = np.argsort(own, kind="stable")
        return own[order], other[order], (order % max(1, len(self.a))).astype(np.int64)


def manifest_pairs(manifest: Manifest, sample_ids: Sequence[str]) -> DifficultPairs | None:
    """The pairs whose margin or temperature changes the loss; None when there are none.

    sample_ids: what the indices count. Raises InputError when a pair names a sample that is not among them, or has a
    temperature that is not positive.
    """
    margin = manifest.pairs["margin"].to_numpy()
    temperature = manifest.pairs["temperature"].to_numpy()
    if not (np.isfinite(margin).all() and np.isfinite(temperature).all() and (temperature > 0).all()):
        raise InputError(
            "The manifest holds margins or temperatures that are not finite, or temperatures that are not positive.",
            "Write the manifest again.",
        )
    changing = (margin != 0) | (temperature != 1)
    if not changing.any():
        return None
    number = {name: index for index, name in enumerate(sample_ids)}
    try:
        a, b = (
            np.array([number[name] for name in manifest.pairs[side].filter(changing).to_pylist()], np.int64)
            for side in ("a", "b")
        )
    except KeyError as error:
        raise InputError(
            f"The manifest's pairs name {error}, which is none of its samples.", "Write the manifest again."
        ) from error
    return DifficultPairs(a, b, margin[changing], temperature[changing])
