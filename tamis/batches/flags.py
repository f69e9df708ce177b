"""Which pairs of a batch are difficult, as a manifest tells, and what the loss makes of them.

curated: the band of the manifest's features, which tell it of any two samples. listed: the pairs that the manifest
lists, a small part of the band.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from tamis.batches.listed import DifficultPairs, manifest_pairs
from tamis.losses import PerPair
from tamis.manifest import Manifest, usable

# (B, B) bool, symmetric, on the device; and margin and temperature factor where it is True.
Flagged: TypeAlias = tuple[torch.Tensor, PerPair, PerPair]
# From the numbers of the batch's samples, (B,) int64 on the device, and its features before the projection head,
# (2, B, d), view by view.
InBatch: TypeAlias = Callable[[torch.Tensor, torch.Tensor], Flagged]
# From the numbers of B samples and of K others, int64 on the device: flags (B, K), margin and factor.
Between: TypeAlias = Callable[[torch.Tensor, torch.Tensor], Flagged]


@dataclass(frozen=True, eq=False)
class Curated:
    """Pairs with low <= product of their rows < high. rows: (N, d) float16.

    on_device: whether all is told there, without a look at a value.
    """

    rows: npt.NDArray[np.float16]
    low: float
    high: float
    margin: float
    temperature: float

    on_device: ClassVar[bool] = True

    def on(self, device: torch.device) -> InBatch:
        return within(self.between(device))

    def between(self, device: torch.device) -> Between:
        resident = torch.from_numpy(self.rows).to(device)

        def flagged(samples: torch.Tensor, others: torch.Tensor) -> Flagged:
            similarity = resident[samples].float() @ resident[others].float().T
            return (similarity >= self.low) & (similarity < self.high), self.margin, self.temperature

        return flagged

    def digest(self) -> str:
        return digest_of(self.rows, self.low, self.high, self.margin, self.temperature)


@dataclass(frozen=True, eq=False)
class Listed:
    """Pairs of a list, each with a margin and a factor of its own."""

    pairs: DifficultPairs

    on_device: ClassVar[bool] = False

    def on(self, device: torch.device) -> InBatch:
        def in_batch(samples: torch.Tensor, features: torch.Tensor) -> Flagged:
            found = self.pairs.in_batch(samples.cpu().numpy())
            flags, margin, temperature = (torch.from_numpy(array).to(device) for array in found)
            return flags, margin, temperature

        return in_batch

    def digest(self) -> str:
        return digest_of(self.pairs.a, self.pairs.b, self.pairs.margin, self.pairs.temperature)


def curated_flags(manifest: Manifest) -> Curated | Listed | None:
    """The flags of `usable(manifest)`, in that order; None where the manifest treats no pair.

    A manifest of an earlier version has no features: there its list tells. Raises InputError for what does not fit.
    """
    band = manifest.description.get("band")
    if manifest.features is None or band is None:
        return listed_flags(manifest)
    rows = manifest.features[manifest.samples["reason"].to_numpy(zero_copy_only=False) != "undecodable"]
    return Curated(rows, band["sim_low"], band["sim_high"], band["margin"], band["temperature"])


def listed_flags(manifest: Manifest) -> Listed | None:
    """As `curated_flags`, by the manifest's list."""
    pairs = manifest_pairs(manifest, usable(manifest)["sample_id"].to_pylist())
    return None if pairs is None else Listed(pairs)


def within(flagged: Between) -> InBatch:
    return lambda samples, features: flagged(samples, samples)


def digest_of(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
    return digest.hexdigest()
