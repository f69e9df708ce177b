"""What every framework has: an encoder, a projection head and an optimiser, and the step that moves them."""

import importlib
import io
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tamis.batches.listed import Indices
from tamis.device import has_bf16, repeatable_convolutions
from tamis.encoders.encoder import build_encoder
from tamis.encoders.networks import timm
from tamis.encoders.spec import EncoderSpec
from trainer.augment import augment
from trainer.flags import Flags
from trainer.forgetting import Forgotten
from trainer.frameworks.replayed import Replayed
from trainer.processes import ALONE, Processes
from trainer.recipe import Recipe

MOMENTUM = 0.9


class Learner(ABC):
    """What a checkpoint holds. A framework adds its loss, and what that needs beside these.

    flags: which pairs the loss treats. processes: those that share every batch. forgotten: where SimCLR counts what it
    forgets; None, at first, for nowhere. alike: whether each of a framework's steps is the one before on other images,
    so that a GPU can replay them.
    """

    alike = True

    def __init__(
        self,
        spec: EncoderSpec,
        recipe: Recipe,
        device: torch.device,
        total: int,
        flags: Flags | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self._recipe, self._device, self._total, self._processes = recipe, device, total, processes
        self.forgotten: Forgotten | None = None
        self.encoder = build_encoder(spec, recipe.seed).to(device).train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_seed(recipe.seed, 0))
            self._head = self._projection_head(self.encoder.dimension).to(device).train()
        self._optimiser = _optimiser([*self.encoder.parameters(), *self._head.parameters()], recipe)
        self._averaged = processes.averaging(_Learning(self.encoder, self._head, self._loss))
        self._begin(flags)
        self._generator = torch.Generator(device)
        self._gradients: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = self._computed
        if device.type == "cuda" and processes.size == 1 and self.alike and (flags is None or flags.on_device):
            self._gradients = Replayed(self._computed, self._generator)

    @abstractmethod
    def _begin(self, flags: Flags | None) -> None:
        """What the framework has beside the encoder and the head, which are there. Raises InputError for flags that it
        cannot use."""

    @abstractmethod
    def _projection_head(self, dimension: int) -> nn.Module:
        """From the encoder's features; it is thrown away after training."""

    @abstractmethod
    def _loss(self, first: torch.Tensor, second: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        """Of the samples of a batch, (B,) int64, from two views of this process's share of them, (b, 3, S, S) each.

        Every process finds the same; its gradient is of what this one computed.
        """

    def learn(self, step: int, pixels: npt.NDArray[np.uint8], indices: Indices) -> torch.Tensor:
        """One optimiser step, counted from 1, on the samples `indices`; returns its loss, still on the device.

        pixels: (b, 3, S, S), of this process's share.
        """
        self._generator.manual_seed(_seed(self._recipe.seed, step))
        for group in self._optimiser.param_groups:
            group["lr"] = self.learning_rate(step)
        loss = self._gradients(self._sent(np.ascontiguousarray(pixels)), self._sent(indices))
        self._optimiser.step()
        return loss

    def _computed(self, pixels: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        """The loss, and the parameters' gradients."""
        part = self._processes.rank, self._processes.size
        first, second = (augment(pixels, self._recipe.augmentation, self._generator, *part) for _ in range(2))
        with repeatable_convolutions():
            loss: torch.Tensor = self._averaged(first, second, samples)
            self._optimiser.zero_grad()
            # Averaged over processes, the parts of the gradient then are the whole.
            (self._processes.size * loss).backward()  # type: ignore[no-untyped-call]  # untyped in torch
        return loss.detach()

    def _sent(self, array: npt.NDArray[Any]) -> torch.Tensor:
        """On the device. A GPU fetches it by itself, while the next batch is got ready."""
        tensor = torch.from_numpy(array)
        return tensor if self._device.type == "cpu" else tensor.pin_memory().to(self._device, non_blocking=True)

    def learning_rate(self, step: int) -> float:
        warm_up = max(1, round(self._recipe.warm_up * self._total))
        if step <= warm_up:
            return self._recipe.learning_rate * step / warm_up
        passed = (step - warm_up) / max(1, self._total - warm_up)
        return self._recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * passed))

    def content(self, step: int, settings: str) -> bytes:
        sink = io.BytesIO()
        torch.save({"settings": settings, "step": step, **{name: p.state_dict() for name, p in self._parts()}}, sink)
        return sink.getvalue()

    def restore(self, content: bytes | None, settings: str) -> int:
        """Takes up a checkpoint of the same settings; returns the steps already done."""
        if content is None:
            return 0
        try:
            stored = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            if stored["settings"] != settings:
                return 0
        except Exception:  # whatever a damaged file makes torch.load stumble over: training starts anew
            return 0
        for name, part in self._parts():
            part.load_state_dict(stored[name])
        return int(stored["step"])

    def _parts(self) -> list[tuple[str, Any]]:
        counted = [] if self.forgotten is None else [("forgotten", self.forgotten)]
        return [("encoder", self.encoder), ("head", self._head), ("optimiser", self._optimiser), *counted]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=has_bf16(self._device))


class _Learning(nn.Module):
    """A loss and what it moves, as DistributedDataParallel takes them."""

    def __init__(self, encoder: nn.Module, head: nn.Module, loss: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.encoder, self.head, self._loss = encoder, head, loss

    def forward(self, first: torch.Tensor, second: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        return self._loss(first, second, samples)


def _optimiser(parameters: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """Raises InputError for LARS without timm, which has it."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate)
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=MOMENTUM)
    # Without decay, biases and norms are not adapted, as SimCLR has it.
    timm()
    lars: type[torch.optim.Optimizer] = importlib.import_module("timm.optim").Lars
    return lars(groups, lr=recipe.learning_rate, momentum=MOMENTUM)  # type: ignore[call-arg]  # as Lars takes it


def _seed(seed: int, step: int) -> int:
    return int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0] >> 1)
