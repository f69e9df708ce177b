"""How to train: what the command line, the API and the trainer judge before any work. Light to import."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from tamis.errors import InputError
from trainer.augmentation import SIMCLR, Augmentation

Method: TypeAlias = Literal["simclr", "moco"]
Loss: TypeAlias = Literal["infonce", "spectral"]
FlagSource: TypeAlias = Literal["curated", "listed", "online"]
METHODS, LOSSES, FLAG_SOURCES = get_args(Method), get_args(Loss), get_args(FlagSource)
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
    method: SimCLR, or MoCo v2, which learns by InfoNCE alone. queue, momentum: of MoCo: keys of earlier batches, and
        the part of itself that the key encoder keeps a step. 0.99, not the 0.999 of its long trainings on ImageNet,
        for trainings of hundreds of steps.
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
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    projection_dim: int = 64
    queue: int = 4096
    momentum: float = 0.99
    augmentation: Augmentation = SIMCLR
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"There is no method {self.method!r}.", f"Use {' or '.join(METHODS)}.")
        if self.loss not in LOSSES:
            raise InputError(f"There is no loss {self.loss!r}.", f"Use {' or '.join(LOSSES)}.")
        if self.method == "moco" and self.loss != "infonce":
            raise InputError(f"MoCo does not learn by the loss {self.loss}.", "Use infonce, or the method simclr.")
        if not 0 <= self.momentum < 1:
            raise InputError(f"The momentum is {self.momentum}.", "Use 0 to below 1.")
        for name in ("epochs", "steps", "queue"):
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


def check_flag_source(method: str, source: str) -> None:
    """Raises InputError where the pairs of a method's loss are none that the source of flags knows."""
    if method == "moco" and source != "curated":
        raise batch_alone(source)


def batch_alone(source: str) -> InputError:
    return InputError(
        f"The flags {source} know the pairs of one batch, and MoCo compares with keys of earlier ones.",
        "Use the flags curated, of a manifest with features, or the method simclr.",
    )
