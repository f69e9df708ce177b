"""How to train: what the command line, the API and the trainer judge before any work. Light to import."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from tamis.errors import InputError
from trainer.augmentation import SIMCLR, Augmentation

Loss: TypeAlias = Literal["infonce", "spectral"]
FlagSource: TypeAlias = Literal["curated", "listed", "online"]
LOSSES, FLAG_SOURCES = get_args(Loss), get_args(FlagSource)
MIN_SAMPLES = 4
# Where no number of epochs is given, these bound it.
MIN_EPOCHS, MAX_EPOCHS = 10, 200


@dataclass(frozen=True)
class Recipe:
    """How to train. AdamW with decay on matrices only, linear warm-up over 5% of the steps, then a cosine to zero.

    epochs: passes over the samples of the manifest, kept or not; None for as many as come to about `usual_steps`, but
        no fewer than 10 and no more than 200. steps: of the optimiser, in place of epochs.
    batch_size: samples a step, two views each; fewer when there are fewer. On small data 500 steps of 128 beat 250 of
        256, the same work.
    temperature, prior, hardness: of InfoNCE; the spectral loss has none.
    augmentation: what the two views of an image differ by.
    projection_dim: outputs of the projection head, which is thrown away after training.
    Raises InputError for an unknown loss and numbers out of range.
    """

    epochs: int | None = None
    steps: int | None = None
    usual_steps: int = 600
    batch_size: int = 128
    loss: str = "infonce"
    temperature: float = 0.2
    prior: float = 0.0
    hardness: float = 0.0
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    projection_dim: int = 64
    augmentation: Augmentation = SIMCLR
    seed: int = 0

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise InputError(f"There is no loss {self.loss!r}.", f"Use {' or '.join(LOSSES)}.")
        for name in ("epochs", "steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}.", "Use 1 or more.")
        if self.epochs is not None and self.steps is not None:
            raise InputError("Both epochs and steps say how long to train.", "Give one of them.")
        if self.batch_size < MIN_SAMPLES:
            raise InputError(f"The batch size is {self.batch_size}.", f"Use {MIN_SAMPLES} or more.")

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
