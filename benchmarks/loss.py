"""InfoNCE forwards and backwards, plain and with a manifest's pairs told apart, beside lightly's NT-Xent and beside the
products alone that any contrastive loss computes; and the memory of a large batch."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from benchmarks.measure import in_fresh_process, machine, resident_bytes, seconds, wait_for
from tamis.batches.flags import Curated
from tamis.device import resolve_device
from tamis.losses import InfoNCE

REPEATS, TEMPERATURE = 5, 0.2
LARGE = (2048, 8192)


def run(
    device: str = "auto", batches: tuple[int, ...] = (128, 512, 2048), dimension: int = 64
) -> Iterator[tuple[str, Any]]:
    """Yields for each batch milliseconds of the loss, and times: with flags to without, lightly's to ours, ours to the
    products; and of two large batches, a process each, the most memory that was taken."""
    target = resolve_device(device)
    yield "machine", machine()
    for batch in map(int, batches):
        yield f"batch of {batch}", _figures(batch, dimension, target)
    if target.type == "cpu":
        for batch in LARGE:
            found = in_fresh_process("benchmarks.loss:_large", batch=batch, dimension=dimension)
            yield f"memory, batch of {batch}", {"megabytes": found["peak_bytes"] / 1e6, "logits": 16e-6 * batch**2}


def _figures(batch: int, dimension: int, device: torch.device) -> dict[str, float | None]:
    z1, z2 = (torch.randn(batch, dimension, device=device, requires_grad=True) for _ in range(2))
    flags, samples = made_band(batch).on(device), torch.arange(batch, device=device)
    ours = InfoNCE(TEMPERATURE)
    plain = _taken(lambda: ours(z1, z2), device)
    told = _taken(lambda: ours(z1, z2, *flags(samples, z1)), device)
    theirs = _lightly(z1, z2, device)
    views = torch.cat([z1, z2]).detach()
    gradient = torch.randn(2 * batch, 2 * batch, device=device)
    products = _timed(lambda: (views @ views.T, gradient @ views, gradient.T @ views), device)
    return {
        "ms": 1000 * plain,
        "with_flags_to_without": told / plain,
        "lightly_to_ours": None if theirs is None else theirs / plain,
        "times_the_products_alone": plain / products,
    }


def made_band(count: int) -> Curated:
    """Half of the pairs of so many made samples, at half the temperature."""
    rows = np.random.default_rng(0).standard_normal((count, 64))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Curated(rows.astype(np.float16), -0.2, 0.15, 0.0, 0.5)


def _lightly(z1: torch.Tensor, z2: torch.Tensor, device: torch.device) -> float | None:
    with suppress(ImportError):
        loss = importlib.import_module("lightly.loss").NTXentLoss(temperature=TEMPERATURE)
        return _taken(lambda: loss(z1, z2), device)
    return None


def _taken(loss: Callable[[], torch.Tensor], device: torch.device) -> float:
    """Seconds forwards and backwards."""
    return _timed(lambda: loss().backward(), device)  # type: ignore[no-untyped-call]  # untyped in torch


def _timed(work: Callable[[], Any], device: torch.device) -> float:
    def ended() -> None:
        work()
        wait_for(device)

    ended()
    return seconds(ended, REPEATS)


def _large(batch: int, dimension: int) -> dict[str, Any]:
    z1, z2 = (torch.randn(batch, dimension, requires_grad=True) for _ in range(2))
    InfoNCE(TEMPERATURE)(*torch.randn(2, 64, dimension, requires_grad=True)).backward()  # type: ignore[no-untyped-call]
    before = resident_bytes()
    InfoNCE(TEMPERATURE)(z1, z2).backward()  # type: ignore[no-untyped-call]  # untyped in torch
    return {"bytes_before": before}
