"""How to train: what the command line, the API and the trainer judge before any work. Light to import."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from tamis.errors import InputError
from trainer.augmentation import SIMCLR, Augmentation

Method: TypeAlias = Literal["simclr", "moco", "simsiam", "byol", "clip"]
Loss: TypeAlias = Literal["infonce", "spectral"]
FlagSource: TypeAlias = Literal["curated", "listed", "online"]
Optimiser: TypeAlias = Literal["adamw", "sgd", "lars"]
METHODS, LOSSES, FLAG_SOURCES, OPTIMISERS = map(get_args, (Method, Loss, FlagSource, Optimiser))
# They compare an image with itself alone: no pair of images is in their loss.
WITHOUT_PAIRS = {"simsiam": "SimSiam", "byol": "BYOL"}
# It compares images with their texts, which a training on a manifest alone is given.
OF_TEXTS = "clip"
MIN_SAMPLES = 4
# Where no number of epochs is given, these bound it.
MIN_EPOCHS, MAX_EPOCHS = 10, 200


@dataclass(frozen=True)
class Recipe:
    """How to train. Decay is on matrices only; the learning rate rises linearly and falls by a cosine to zero.

    epochs: passes over the samples of the manifest, kept or not; None for as many as come to about `usual_steps`, but
        no fewer than 10 and no more than 200. steps: of the optimiser, in place of epochs.
    batch_size: samples a step, two views each; fewer when there are fewer. On small data 500 steps of 128 beat 250 of
        256, the same work.
    method: SimCLR; MoCo v2, which learns by InfoNCE alone; SimSiam and BYOL, which compare no images and have no loss
        to choose; CLIP, which learns by InfoNCE between images and texts. queue: of MoCo, keys of earlier batches.
        momentum: the part of itself that MoCo's key encoder keeps a step, and BYOL's target in the first ones. 0.99,
        not the 0.999 of long trainings on ImageNet, for trainings of hundreds of steps.
    optimiser: AdamW; SGD with momentum 0.9; LARS (You et al. 2017) for batches of thousands. warm_up: the share of the
        steps in which the learning rate rises.
    temperature, prior, hardness: of InfoNCE; the spectral loss has none.
    augmentation: what the two views of an image differ by.
    projection_dim: outputs of the projection head, which is thrown away after training.
    Raises InputError for an unknown method or loss, two that do not go together, and numbers out of range.
    """

    epochs: int | None = None
    steps: int | None = None
    usual_steps: int = 600
    batch_size: int = 128
    method: str = "simclr"
    loss: str = "infonce"
    temperature: float = 0.2
    prior: float = 0.0
    hardness: float = 0.0
    optimiser: str = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    warm_up: float = 0.05
    projection_dim: int = 64
    queue: int = 4096
    momentum: float = 0.99
    augmentation: Augmentation = SIMCLR
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("method", METHODS), ("loss", LOSSES), ("optimiser", OPTIMISERS)):
            if getattr(self, name) not in known:
                raise InputError(f"There is no {name} {getattr(self, name)!r:.99}.", f"Use {' or '.join(known)}.")
        if self.method != "simclr" and self.loss != "infonce":
            raise InputError(f"{self.method} does not learn by the loss {self.loss}.", "Leave it out, or use simclr.")
        if self.method == OF_TEXTS and (self.prior or self.hardness):
            raise InputError("clip knows no prior and no hardness.", "Leave them out, or use simclr or moco.")
        for name in ("momentum", "warm_up", "prior"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}.", "Use 0 to below 1.")
        for name in ("learning_rate", "temperature"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise InputError(f"{name} is {getattr(self, name)}.", "Use a number above 0.")
        if not (self.weight_decay >= 0 and math.isfinite(self.weight_decay)):
            raise InputError(f"weight_decay is {self.weight_decay}.", "Use 0 or more.")
        for name in ("epochs", "steps", "queue", "projection_dim"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}.", "Use 1 or more.")
        if self.epochs is not None and self.steps is not None:
            raise InputError("Both epochs and steps say how long to train.", "Give one of them.")
        if self.batch_size < MIN_SAMPLES:
            raise InputError(f"The batch size is {self.batch_size}.", f"Use {MIN_SAMPLES} or more.")

    @property
    def objective(self) -> str:
        """What is minimised, by name."""
        if self.method in WITHOUT_PAIRS:
            return "the negative cosine of two views"
        return "infonce of images and texts" if self.method == OF_TEXTS else self.loss

    def epochs_for(self, samples: int) -> int:
        """The number of epochs, begun ones too, for a manifest of so many samples."""
        if self.epochs is not None:
            return self.epochs
        if self.steps is not None:
            return math.ceil(self.steps / self._steps_an_epoch(samples))
        return min(max(round(self.usual_steps / self._steps_an_epoch(samples)), MIN_EPOCHS), MAX_EPOCHS)

    def steps_for(self, samples: int) -> int:
        """The number of optimiser steps: it follows from all samples, so that every arm takes equally many."""
        return self.steps or self.epochs_for(samples) * self._steps_an_epoch(samples)

    def _steps_an_epoch(self, samples: int) -> int:
        return math.ceil(samples / self.batch_size)


USUAL = Recipe()


def check_flag_source(method: str, source: str) -> None:
    """Raises InputError where the pairs of a method's loss are none that the source of flags knows."""
    if method == "moco" and source != "curated":
        raise batch_alone(source)


def check_texts(method: str, given: bool) -> None:
    """Raises InputError where a method lacks the texts that it learns from, or is given some."""
    if method == OF_TEXTS and not given:
        raise InputError(
            "clip learns from texts, and there are none.", "Give their embeddings by `tamis train --texts`."
        )
    if method != OF_TEXTS and given:
        raise InputError(f"{method} learns from images alone.", "Leave the texts out, or use the method clip.")


def batch_alone(source: str) -> InputError:
    return InputError(
        f"The flags {source} know the pairs of one batch, and MoCo compares with keys of earlier ones.",
        "Use the flags curated, of a manifest with features, or the method simclr.",
    )


def no_pairs(method: str, what: str) -> InputError:
    return InputError(
        f"{WITHOUT_PAIRS[method]} compares an image with itself alone, so {what} would change nothing.",
        "Use simclr or moco, or a manifest of the strategy remove.",
    )
