"""What each arm of an experiment trains on: images, pairs that the loss treats, and the recipe."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tamis.batches.flags import Curated
from tamis.errors import InputError
from tamis.manifest import Manifest, usable
from trainer.arms import FORGETTING, PEERS, Arm
from trainer.flags import Chance, Flags, manifest_flags
from trainer.recipe import Recipe
from trainer.subset import RULES

Flagged = npt.NDArray[np.bool_]
# What arms and seeds differ by in their recipe.
VARIED = ("seed", "temperature", "prior", "hardness")
# Negatives weigh in proportion to e^logit, which the authors' code has for its default too (Robinson et al. 2021).
HARDNESS = 1.0


@dataclass(frozen=True, eq=False)
class Trial:
    """What one run trains on: keep, (N,) bool, and the pairs that the loss treats.

    most_forgotten: where above 0, so many of `keep`, those that a first training on all of them forgets most often.
    """

    keep: Flagged
    flags: Flags | None
    recipe: Recipe
    most_forgotten: int = 0

    def digest(self) -> str:
        """Of all that its outcome depends on, for one set of images and one network."""
        stated: list[Any] = [None if self.flags is None else self.flags.digest(), asdict(self.recipe)]
        if self.most_forgotten:
            stated.append(self.most_forgotten)
        return hashlib.sha256(json.dumps(stated).encode() + self.keep.tobytes()).hexdigest()


def trial_of(arm: Arm, manifest: Manifest, tested: Flagged, recipe: Recipe) -> Trial:
    """What an arm trains on with the recipe's seed, of the rows of `usable(manifest)` but those tested on.

    Raises InputError for an arm of the literature that needs classes where one is found.
    """
    recipe = replace(recipe, temperature=arm.temperature)
    if not arm.strategy:
        return Trial(~tested, None, recipe)
    if arm.keeps == FORGETTING:
        return Trial(~tested, None, recipe, int((usable(manifest)["keep"].to_numpy() & ~tested).sum()))
    if arm.keeps:
        return Trial(_kept(arm, manifest, tested), None, recipe)
    if arm.name in PEERS:
        return _peer(arm.name, manifest, tested, recipe)
    keep = usable(manifest)["keep"].to_numpy(zero_copy_only=False) & ~tested
    flags = manifest_flags(manifest)
    if not arm.control:
        return Trial(keep, flags, recipe)
    trained = np.flatnonzero(~tested)
    by_chance = np.zeros(len(keep), np.bool_)
    by_chance[np.random.default_rng((recipe.seed, len(keep))).choice(trained, int(keep.sum()), replace=False)] = True
    if "band" not in manifest.description:
        return Trial(by_chance, None, recipe)
    band, cut = manifest.description["band"], manifest.description["thresholds"]
    share = 1.0 if arm.control == "all" else cut["pos_low"] - cut["pos_high"]
    # Where every pair is treated, it is the same whatever the seed.
    seed = 0 if arm.control == "all" else recipe.seed
    return Trial(by_chance, Chance(share, band["margin"], band["temperature"], seed), recipe)


def _peer(name: str, manifest: Manifest, tested: Flagged, recipe: Recipe) -> Trial:
    """An arm of the literature, with what it has to know of the classes as the manifest estimates it."""
    flags = _told(name, manifest)
    if name == "eliminated":
        return Trial(~tested, replace(flags, low=flags.high, high=math.inf, margin=-math.inf, temperature=1.0), recipe)
    prior = manifest.description["thresholds"]["pos_high"]
    return Trial(~tested, None, replace(recipe, prior=prior, hardness=HARDNESS if name == "hard" else 0.0))


def _told(name: str, manifest: Manifest) -> Curated:
    """The manifest's features and band, which an arm goes by."""
    flags = manifest_flags(manifest)
    if not isinstance(flags, Curated):
        raise InputError(
            f"The images are of one class as far as is known, so the arm {name} has nothing to go by.",
            "Leave it out, or say how many there are with --classes.",
        )
    return flags


def _kept(arm: Arm, manifest: Manifest, tested: Flagged) -> Flagged:
    """As many samples as the manifest keeps of those not tested on, by the arm's own rule."""
    rows = _told(arm.name, manifest).rows
    samples, trained = usable(manifest), np.flatnonzero(~tested)
    count = int((samples["keep"].to_numpy(zero_copy_only=False) & ~tested).sum())
    keep = np.zeros(len(tested), np.bool_)
    keep[trained] = RULES[arm.keeps](rows[trained], samples["cluster"].to_numpy()[trained], count)
    return keep
