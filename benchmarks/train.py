"""A training step of the default encoder, the same with a manifest's difficult pairs told apart, the same network's
forward and backward pass alone, and the loop that lightly's documentation has, with the same network, optimiser and
precision: its transforms in a DataLoader, and its NT-Xent. On a GPU the network alone is replayed too, as steps are."""

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, RandomSampler

from benchmarks.loss import made_band
from benchmarks.measure import machine, seconds, wait_for
from tamis.device import has_bf16, repeatable_convolutions, resolve_device
from tamis.encoders.encoder import build_encoder
from tamis.encoders.spec import EncoderSpec
from trainer.flags import Flags
from trainer.frameworks.replayed import Replayed
from trainer.frameworks.simclr import SimCLR
from trainer.recipe import Recipe

IMAGES, WARM, STEPS = 2048, 5, 20
# Steps with and without flags, and the network alone, take turns, for they differ by less than a machine's pace does.
TURNS = {"cpu": 10, "cuda": 4}
# Processes that transform images for lightly's loop: the faster of these counts.
WORKERS = {"cpu": (0, 2), "cuda": (os.cpu_count() or 1,)}
# Each of them has a batch ready, so that as many steps show nothing of how fast they are.
LIGHTLY_STEPS = {"cpu": 6, "cuda": 32}
# What each ratio should be.
MEANT: dict[str, Callable[[float], bool]] = {
    "share_of_limit": lambda ratio: ratio >= 0.9,
    "with_flags_to_without": lambda ratio: ratio <= 1.03,
    "lightly_to_ours": lambda ratio: ratio >= 1,
}
NETWORKS = {"cpu": (("small", 24), ("small", 32)), "cuda": (("small", 32), ("resnet18", 64), ("resnet18", 224))}


def run(device: str = "auto", batch_size: int = Recipe.batch_size) -> Iterator[tuple[str, Any]]:
    """Yields for each network, and the pixels of a side: milliseconds a step, images a second, which share of the pace
    of the network alone on resident random views that is, the time of a step with flags to one without, that of
    lightly's to ours, where it is installed, and which of these are as they should be, by MEANT."""
    target = resolve_device(device)
    gpu = {"gpu": torch.cuda.get_device_name()} if target.type == "cuda" else {}
    yield "machine", {**machine(), **gpu}
    for architecture, size in NETWORKS[target.type]:
        pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 3, size, size), np.uint8)
        spec, recipe = EncoderSpec(architecture, size), Recipe(batch_size=batch_size)
        step, ratios = _step(spec, recipe, target, pixels)
        theirs = _lightly(spec, batch_size, target, pixels)
        ratios["lightly_to_ours"] = None if theirs is None else theirs / step
        meant = {name: MEANT[name](ratio) for name, ratio in ratios.items() if ratio is not None}
        figures = {"ms": 1000 * step, "images_a_second": batch_size / step, **ratios, "as_meant": meant}
        yield f"{architecture}, {size} pixels", figures


def _step(
    spec: EncoderSpec, recipe: Recipe, device: torch.device, pixels: np.ndarray[Any, Any]
) -> tuple[float, dict[str, float | None]]:
    """Seconds of a step, the least of all turns, and its ratios to the others: medians over turns."""
    kinds: list[Flags | None] = [None, made_band(len(pixels))]
    turns = TURNS[device.type]
    learners = [SimCLR(spec, recipe, device, WARM + turns * STEPS, flags) for flags in kinds]

    def steps(learner: SimCLR, first: int, count: int) -> None:
        for step in range(first, first + count):
            drawn = np.random.default_rng(step).permutation(len(pixels))[: recipe.batch_size]
            learner.learn(step, pixels[drawn], drawn)
        wait_for(device)

    passes = _alone(spec, recipe.batch_size, device)
    kinds_of_work = [*(partial(steps, learner) for learner in learners), passes]
    for work in kinds_of_work:
        work(1, WARM)
    taken = np.empty((turns, len(kinds_of_work)))
    for turn in range(turns):
        for kind in range(len(kinds_of_work))[:: 1 if turn % 2 else -1]:
            taken[turn, kind] = seconds(partial(kinds_of_work[kind], 1 + WARM + turn * STEPS, STEPS))
    plain, flagged, alone = taken.T
    ratios = {"share_of_limit": np.median(alone / plain), "with_flags_to_without": np.median(flagged / plain)}
    return float(plain.min()) / STEPS, {name: float(ratio) for name, ratio in ratios.items()}


def _alone(spec: EncoderSpec, batch_size: int, device: torch.device) -> Callable[[int, int], None]:
    """So many passes of the network over the two views of a batch that are there already, and for the gradients."""
    encoder = build_encoder(spec, 0).to(device).train()
    views = torch.rand(2 * batch_size, 3, spec.image_size, spec.image_size, device=device)
    views = views.contiguous(memory_format=torch.channels_last)

    def both_ways(views: torch.Tensor) -> torch.Tensor:
        encoder.zero_grad()
        with repeatable_convolutions():
            with torch.autocast(device.type, torch.bfloat16, enabled=has_bf16(device)):
                loss: torch.Tensor = encoder(views).square().mean()
            loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        return loss.detach()

    work = Replayed(both_ways) if device.type == "cuda" else both_ways

    def passes(first: int, count: int) -> None:
        for _ in range(count):
            work(views)
        wait_for(device)

    return passes


def _lightly(spec: EncoderSpec, batch_size: int, device: torch.device, pixels: np.ndarray[Any, Any]) -> float | None:
    """Seconds of a step of lightly's loop; None where it is not installed."""
    with suppress(ImportError):
        losses, heads, transforms = (
            importlib.import_module(f"lightly.{name}") for name in ("loss", "models.modules.heads", "transforms")
        )
        encoder = build_encoder(spec, 0).to(device).train()
        head = heads.SimCLRProjectionHead(encoder.dimension, encoder.dimension, Recipe.projection_dim).to(device)
        loss = losses.NTXentLoss(temperature=Recipe.temperature)
        optimiser = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], Recipe.learning_rate)
        views = transforms.SimCLRTransform(input_size=spec.image_size, gaussian_blur=0.0, cj_strength=0.5)
        data = _Images(pixels, views)

        def steps(batches: Iterator[list[torch.Tensor]]) -> None:
            for first, second in batches:
                both = torch.cat([first, second]).to(device)
                with torch.autocast(device.type, torch.bfloat16, enabled=has_bf16(device)):
                    projected = head(encoder(both.contiguous(memory_format=torch.channels_last))).float()
                optimiser.zero_grad()
                loss(*projected.chunk(2)).backward()
                optimiser.step()
            wait_for(device)

        taken: list[float] = []
        for workers in WORKERS[device.type]:
            ready, count = max(2, workers), LIGHTLY_STEPS[device.type]
            drawn = RandomSampler(data, replacement=True, num_samples=batch_size * (2 * ready + count))
            ahead = {"prefetch_factor": 1} if workers else {}
            batches = iter(DataLoader(data, batch_size, sampler=drawn, num_workers=workers, **ahead))
            steps(islice(batches, ready))
            taken.append(seconds(lambda batches=batches, count=count: steps(islice(batches, count))) / count)  # type: ignore[misc]
        return min(taken)
    return None


class _Images(torch.utils.data.Dataset[Any]):
    def __init__(self, pixels: np.ndarray[Any, Any], views: Any) -> None:
        self._images = [Image.fromarray(image.transpose(1, 2, 0)) for image in pixels]
        self._views = views

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> Any:
        return self._views(self._images[row])
