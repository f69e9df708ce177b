"""A training step of the default encoder, and beside it the same network's forward and backward pass alone."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.measure import machine, seconds
from tamis.device import has_bf16, repeatable_convolutions, resolve_device
from tamis.encoders.encoder import build_encoder
from tamis.encoders.spec import EncoderSpec
from trainer.recipe import Recipe
from trainer.simclr import Learner

IMAGES, WARM, STEPS = 2048, 5, 20
NETWORKS = {"cpu": (("small", 24), ("small", 32)), "cuda": (("small", 32), ("resnet18", 64), ("resnet18", 224))}


def run(device: str = "auto", batch_size: int = Recipe.batch_size) -> Iterator[tuple[str, Any]]:
    """Yields for each network, and the pixels of a side, milliseconds a step, images a second, and the ratio to the
    network alone."""
    target = resolve_device(device)
    gpu = {"gpu": torch.cuda.get_device_name()} if target.type == "cuda" else {}
    yield "machine", {**machine(), **gpu}
    for architecture, size in NETWORKS[target.type]:
        pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 3, size, size), np.uint8)
        spec, recipe = EncoderSpec(architecture, size), Recipe(batch_size=batch_size)
        step = _step(spec, recipe, target, pixels)
        alone = _alone(spec, batch_size, target)
        figures = {"ms": 1000 * step, "images_a_second": batch_size / step, "times_the_network_alone": step / alone}
        yield f"{architecture}, {size} pixels", figures


def _step(spec: EncoderSpec, recipe: Recipe, device: torch.device, pixels: np.ndarray[Any, Any]) -> float:
    learner = Learner(spec, recipe, device, total=WARM + STEPS)

    def steps(first: int, last: int) -> None:
        for step in range(first, last):
            drawn = np.random.default_rng(step).permutation(len(pixels))[: recipe.batch_size]
            learner.learn(step, pixels[drawn], None)
        _wait(device)

    steps(1, WARM + 1)
    return seconds(lambda: steps(WARM + 1, WARM + STEPS + 1)) / STEPS


def _alone(spec: EncoderSpec, batch_size: int, device: torch.device) -> float:
    """Seconds of the network on the two views of a batch that are there already, and of the gradients."""
    encoder = build_encoder(spec, 0).to(device).train()
    views = torch.rand(2 * batch_size, 3, spec.image_size, spec.image_size, device=device)
    views = views.contiguous(memory_format=torch.channels_last)

    def passes(number: int) -> None:
        for _ in range(number):
            with repeatable_convolutions(), torch.autocast(device.type, torch.bfloat16, enabled=has_bf16(device)):
                loss = encoder(views).square().mean()
            loss.backward()
        _wait(device)

    passes(WARM)
    return seconds(lambda: passes(STEPS)) / STEPS


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
