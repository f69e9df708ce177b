"""Which pairs of a batch are difficult, by one of three sources, and what the loss makes of them.

curated: the band of the manifest's features, which tell it of any two samples. listed: the pairs that the manifest
lists, a small part of the band. online: the percentiles of the batch's own features, as in the paper (Zhang et al.
2026, section 4), before they mean much.
"""

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from torch.nn.functional import normalize

from tamis.batches.flags import (
    Between,
    Curated,
    Flagged,
    InBatch,
    Listed,
    curated_flags,
    digest_of,
    listed_flags,
    within,
)
from tamis.errors import InputError
from tamis.losses import in_band
from tamis.manifest import Manifest
from trainer.recipe import FlagSource, batch_alone

MASK = 2**31 - 1
# Odd, and so large that no product of two overflows 64 bits.
MULTIPLIER = 0x45D9F3B


@dataclass(frozen=True)
class Online:
    """Pairs between two percentiles of the batch's cosines; a sample's feature is the mean of its two views' of length
    one."""

    pos_high: float
    pos_low: float
    margin: float
    temperature: float

    on_device: ClassVar[bool] = False

    def on(self, device: torch.device) -> InBatch:
        def in_batch(samples: torch.Tensor, features: torch.Tensor) -> Flagged:
            rows = normalize(normalize(features.detach().float(), dim=2).sum(0))
            return in_band(rows @ rows.T, self.pos_high, self.pos_low), self.margin, self.temperature

        return in_batch

    def digest(self) -> str:
        return digest_of("online", self.pos_high, self.pos_low, self.margin, self.temperature)


@dataclass(frozen=True)
class Chance:
    """Pairs that chance picks, each once and for all: a control of what treats as many pairs, but not at random.

    share: of all pairs; 1 for all negatives alike.
    """

    share: float
    margin: float
    temperature: float
    seed: int = 0

    on_device: ClassVar[bool] = True

    def on(self, device: torch.device) -> InBatch:
        return within(self.between(device))

    def between(self, device: torch.device) -> Between:
        limit = round(self.share * 2**31)

        def flagged(samples: torch.Tensor, others: torch.Tensor) -> Flagged:
            small, large = (order(samples[:, None], others) for order in (torch.minimum, torch.maximum))
            drawn = _mixed(_mixed(small + self.seed * 2**20) + large)
            return drawn < limit, self.margin, self.temperature

        return flagged

    def digest(self) -> str:
        return digest_of("chance", self.share, self.margin, self.temperature, self.seed)


Flags: TypeAlias = Curated | Listed | Online | Chance


def manifest_flags(manifest: Manifest, source: FlagSource = "curated") -> Flags | None:
    """The flags of `usable(manifest)`, in that order; None where the manifest treats no pair.

    source: see above. Raises InputError where `online` is asked of a manifest without a band, and for what does not
    fit.
    """
    if source == "curated":
        return curated_flags(manifest)
    if source == "listed":
        return listed_flags(manifest)
    band = manifest.description.get("band")
    if band is None:
        raise InputError(
            "The manifest treats no pairs, so there is nothing to flag online.",
            "Make one of the strategy margin, temperature, combined or auto.",
        )
    cut = manifest.description["thresholds"]
    return Online(cut["pos_high"], cut["pos_low"], band["margin"], band["temperature"])


def between(flags: Flags, device: torch.device) -> Between:
    """Of samples that are in no batch together. Raises InputError for flags that know a batch alone."""
    if isinstance(flags, Listed | Online):
        raise batch_alone(type(flags).__name__.lower())
    return flags.between(device)


def _mixed(numbers: torch.Tensor) -> torch.Tensor:
    """int64 within 0 to 2^31, as good as random: shifts and multiplications as in the end of MurmurHash3."""
    mixed = numbers & MASK
    for _ in range(2):
        mixed = ((mixed ^ (mixed >> 16)) * MULTIPLIER) & MASK
    return mixed ^ (mixed >> 16)
