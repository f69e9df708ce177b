"""Which pairs of a batch are difficult, by one of three sources, and what the loss makes of them.

curated: the band of the manifest's features, which tell it of any two samples. listed: the pairs that the manifest
lists, a small part of the band. online: the percentiles of the batch's own features, as in the paper (Zhang et al.
2026, section 4), before they mean much.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import normalize

from tamis.errors import InputError
from tamis.losses import PerPair, in_band
from tamis.manifest import Manifest
from trainer.data import usable
from trainer.pairs import DifficultPairs, manifest_pairs
from trainer.recipe import FlagSource, batch_alone

MASK = 2**31 - 1
# Odd, and so large that no product of two overflows 64 bits.
MULTIPLIER = 0x45D9F3B

Indices: TypeAlias = npt.NDArray[np.int64]
# (B, B) bool, symmetric, on the device; and margin and temperature factor where it is True.
Flagged: TypeAlias = tuple[torch.Tensor, PerPair, PerPair]
# From the batch's indices, (B,) int64, and its features before the projection head, (2, B, d), view by view.
InBatch: TypeAlias = Callable[[Indices, torch.Tensor], Flagged]
# From the numbers of B samples and of K others, int64 on the device: flags (B, K), margin and factor.
Between: TypeAlias = Callable[[torch.Tensor, torch.Tensor], Flagged]


@dataclass(frozen=True, eq=False)
class Curated:
    """Pairs with low <= product of their rows < high. rows: (N, d) float16."""

    rows: npt.NDArray[np.float16]
    low: float
    high: float
    margin: float
    temperature: float

    def on(self, device: torch.device) -> InBatch:
        return _within(self.between(device), device)

    def between(self, device: torch.device) -> Between:
        resident = torch.from_numpy(self.rows).to(device)

        def flagged(samples: torch.Tensor, others: torch.Tensor) -> Flagged:
            similarity = resident[samples].float() @ resident[others].float().T
            return (similarity >= self.low) & (similarity < self.high), self.margin, self.temperature

        return flagged

    def digest(self) -> str:
        return _digest(self.rows, self.low, self.high, self.margin, self.temperature)


@dataclass(frozen=True, eq=False)
class Listed:
    """Pairs of a list, each with a margin and a factor of its own."""

    pairs: DifficultPairs

    def on(self, device: torch.device) -> InBatch:
        def in_batch(indices: Indices, features: torch.Tensor) -> Flagged:
            flags, margin, temperature = (torch.from_numpy(found).to(device) for found in self.pairs.in_batch(indices))
            return flags, margin, temperature

        return in_batch

    def digest(self) -> str:
        return _digest(self.pairs.a, self.pairs.b, self.pairs.margin, self.pairs.temperature)


@dataclass(frozen=True)
class Online:
    """Pairs between two percentiles of the batch's cosines; a sample's feature is the mean of its two views' of length
    one."""

    pos_high: float
    pos_low: float
    margin: float
    temperature: float

    def on(self, device: torch.device) -> InBatch:
        def in_batch(indices: Indices, features: torch.Tensor) -> Flagged:
            rows = normalize(normalize(features.detach().float(), dim=2).sum(0))
            return in_band(rows @ rows.T, self.pos_high, self.pos_low), self.margin, self.temperature

        return in_batch

    def digest(self) -> str:
        return _digest("online", self.pos_high, self.pos_low, self.margin, self.temperature)


@dataclass(frozen=True)
class Chance:
    """Pairs that chance picks, each once and for all: a control of what treats as many pairs, but not at random.

    share: of all pairs; 1 for all negatives alike.
    """

    share: float
    margin: float
    temperature: float
    seed: int = 0

    def on(self, device: torch.device) -> InBatch:
        return _within(self.between(device), device)

    def between(self, device: torch.device) -> Between:
        limit = round(self.share * 2**31)

        def flagged(samples: torch.Tensor, others: torch.Tensor) -> Flagged:
            small, large = (order(samples[:, None], others) for order in (torch.minimum, torch.maximum))
            drawn = _mixed(_mixed(small + self.seed * 2**20) + large)
            return drawn < limit, self.margin, self.temperature

        return flagged

    def digest(self) -> str:
        return _digest("chance", self.share, self.margin, self.temperature, self.seed)


Flags: TypeAlias = Curated | Listed | Online | Chance


def manifest_flags(manifest: Manifest, source: FlagSource = "curated") -> Flags | None:
    """The flags of `usable(manifest)`, in that order; None where the manifest treats no pair.

    source: see above. A manifest of an earlier version has no features: there `curated` is `listed`. Raises InputError
    where `online` is asked of a manifest without a band, and for what does not fit.
    """
    band = manifest.description.get("band")
    if source == "online":
        if band is None:
            raise InputError(
                "The manifest treats no pairs, so there is nothing to flag online.",
                "Make one of the strategy margin, temperature, combined or auto.",
            )
        cut = manifest.description["thresholds"]
        return Online(cut["pos_high"], cut["pos_low"], band["margin"], band["temperature"])
    if source == "listed" or manifest.features is None or band is None:
        pairs = manifest_pairs(manifest, usable(manifest)["sample_id"].to_pylist())
        return None if pairs is None else Listed(pairs)
    rows = manifest.features[manifest.samples["reason"].to_numpy(zero_copy_only=False) != "undecodable"]
    return Curated(rows, band["sim_low"], band["sim_high"], band["margin"], band["temperature"])


def between(flags: Flags, device: torch.device) -> Between:
    """Of samples that are in no batch together. Raises InputError for flags that know a batch alone."""
    if isinstance(flags, Listed | Online):
        raise batch_alone(type(flags).__name__.lower())
    return flags.between(device)


def _within(flagged: Between, device: torch.device) -> InBatch:
    def in_batch(indices: Indices, features: torch.Tensor) -> Flagged:
        numbers = torch.from_numpy(indices).to(device)
        return flagged(numbers, numbers)

    return in_batch


def _mixed(numbers: torch.Tensor) -> torch.Tensor:
    """int64 within 0 to 2^31, as good as random: shifts and multiplications as in the end of MurmurHash3."""
    mixed = numbers & MASK
    for _ in range(2):
        mixed = ((mixed ^ (mixed >> 16)) * MULTIPLIER) & MASK
    return mixed ^ (mixed >> 16)


def _digest(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
    return digest.hexdigest()
