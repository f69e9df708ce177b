"""SimCLR (Chen et al. 2020) on an ImageSet, with difficult pairs treated apart (Zhang et al. 2026, section 4)."""

import hashlib
import io
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import count
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tamis.checkpoint import Checkpoint
from tamis.device import has_bf16, repeatable_convolutions, resolve_device
from tamis.encoders.encoder import Encoder, build_encoder
from tamis.encoders.spec import EncoderSpec
from tamis.errors import InputError, TamisError
from tamis.losses import InfoNCE, Spectral
from tamis.progress import Progress
from trainer.augment import augment
from trainer.data import ImageSet
from trainer.flags import Flags
from trainer.recipe import MIN_SAMPLES, Recipe

OnMetrics: TypeAlias = Callable[[int, dict[str, float]], None]
Indices: TypeAlias = npt.NDArray[np.int64]

WARM_UP = 0.05
# Steps between two looks at the loss: each look makes a GPU wait. Checkpoints fall on them too.
REPORT_EVERY = 10
# A save is due when the work since the last one took this many times as long as that one did: 2% of the time at most.
WORK_PER_SAVE = 50


def train_simclr(
    images: ImageSet,
    spec: EncoderSpec,
    recipe: Recipe,
    *,
    flags: Flags | None = None,
    keep: npt.NDArray[np.bool_] | None = None,
    weight: npt.NDArray[np.float32] | None = None,
    device: str = "auto",
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
    on_metrics: OnMetrics | None = None,
) -> Encoder:
    """Trains an encoder; returns it in evaluation mode, on the device.

    flags: which pairs the loss treats. keep: (N,) the samples to train on. weight: (N,) how often each is
    drawn relative to the others; with equal weights every pass shows each sample once. progress(done, total) is called
    after every step and may raise to cancel. on_metrics(step, {"loss", "learning_rate"}) is called every 10 steps and
    after the last, the loss being the mean since the last call.

    All chance comes from (seed, step), so a run that goes on from a checkpoint ends with the same bits as one that
    was never interrupted, on one machine; a checkpoint of other settings or images is passed over. The encoder runs in
    bfloat16 where that is faster (`has_bf16`), else in float32.
    Raises InputError when fewer than 4 samples are kept, TamisError when the loss is no longer finite.
    """
    kept, share = _drawn(len(images), keep, weight)
    total = recipe.steps_for(len(images))
    learner = Learner(spec, recipe, resolve_device(device), total, flags)
    settings = _settings_hash(images, spec, recipe, total, kept, share, flags)
    first = learner.restore(checkpoint.load(), settings) if checkpoint is not None else 0
    batches = _batches(kept, share, min(recipe.batch_size, len(kept)), recipe.seed, first)
    losses: list[torch.Tensor] = []
    save_cost, saved_at = 0.0, time.monotonic()
    for step in range(first + 1, total + 1):
        indices = next(batches)
        losses.append(learner.learn(step, images.pixels[indices], indices))
        if step % REPORT_EVERY == 0 or step == total:
            loss = float(torch.stack(losses).mean())
            losses.clear()
            _check_finite(loss, step, recipe)
            if on_metrics is not None:
                on_metrics(step, {"loss": loss, "learning_rate": learner.learning_rate(step)})
            # The first save is at the first report, so that a place that cannot be written is known early.
            began = time.monotonic()
            if checkpoint is not None and step < total and began - saved_at >= WORK_PER_SAVE * save_cost:
                checkpoint.save(learner.content(step, settings))
                saved_at = time.monotonic()
                save_cost = saved_at - began
        if progress is not None:
            progress(step, total)
    encoder = learner.encoder.eval()
    encoder.trained = {
        "device": resolve_device(device).type,
        "precision": "bfloat16" if has_bf16(resolve_device(device)) else "float32",
        "steps": total,
        "batch_size": min(recipe.batch_size, len(kept)),
        "loss": recipe.loss,
        "seed": recipe.seed,
    }
    return encoder


class Learner:
    """Encoder, projection head and optimiser: what a checkpoint holds."""

    def __init__(
        self, spec: EncoderSpec, recipe: Recipe, device: torch.device, total: int, flags: Flags | None = None
    ) -> None:
        self._recipe, self._device, self._total = recipe, device, total
        self._bf16 = has_bf16(device)
        self._flagged = None if flags is None else flags.on(device)
        contrast = InfoNCE(recipe.temperature, recipe.prior, recipe.hardness)
        self._loss = contrast if recipe.loss == "infonce" else Spectral()
        self.encoder = build_encoder(spec, recipe.seed).to(device).train()
        self._head = _projection_head(self.encoder.dimension, recipe).to(device).train()
        parameters = [*self.encoder.parameters(), *self._head.parameters()]
        self._optimiser = torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
                {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=recipe.learning_rate,
        )

    def learn(self, step: int, pixels: npt.NDArray[np.uint8], indices: Indices) -> Any:
        """One optimiser step, counted from 1, on the samples `indices`; returns its loss, still on the device."""
        device = self._device
        generator = torch.Generator(device).manual_seed(_seed(self._recipe.seed, step))
        batch = torch.from_numpy(np.ascontiguousarray(pixels)).to(device)
        views = torch.cat([augment(batch, self._recipe.augmentation, generator) for _ in range(2)])
        for group in self._optimiser.param_groups:
            group["lr"] = self.learning_rate(step)
        with repeatable_convolutions():
            with torch.autocast(device.type, torch.bfloat16, enabled=self._bf16):
                features = self.encoder(views)
                z1, z2 = self._head(features).float().chunk(2)
            treated = () if self._flagged is None else self._flagged(indices, features.reshape(2, len(indices), -1))
            loss = self._loss(z1, z2, *treated)
            self._optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        self._optimiser.step()
        return loss.detach()

    def learning_rate(self, step: int) -> float:
        warm_up = max(1, round(WARM_UP * self._total))
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
        return [("encoder", self.encoder), ("head", self._head), ("optimiser", self._optimiser)]


def _projection_head(dimension: int, recipe: Recipe) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_seed(recipe.seed, 0))
        return nn.Sequential(
            nn.Linear(dimension, dimension, bias=False),
            nn.BatchNorm1d(dimension),
            nn.ReLU(),
            nn.Linear(dimension, recipe.projection_dim),
        )


def _drawn(
    samples: int, keep: npt.NDArray[np.bool_] | None, weight: npt.NDArray[np.float32] | None
) -> tuple[Indices, npt.NDArray[np.float64]]:
    """The samples that may be drawn, and their weights."""
    weights = np.ones(samples) if weight is None else np.asarray(weight, np.float64)
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise InputError("The manifest holds weights that are negative or not finite.", "Write the manifest again.")
    kept = np.flatnonzero((weights > 0) & (True if keep is None else keep))
    if len(kept) < MIN_SAMPLES:
        raise InputError(f"Only {len(kept)} samples are kept.", f"At least {MIN_SAMPLES} are needed to train.")
    return kept, weights[kept]


def _batches(
    kept: Indices, weights: npt.NDArray[np.float64], batch_size: int, seed: int, first: int
) -> Iterator[Indices]:
    """The batches of steps `first`, `first` + 1, ...: passes over the kept samples, each of full batches only.

    A pass draws as many samples as are kept by systematic resampling: each about as often as its weight says, and
    exactly once when the weights are equal.
    """
    per_pass = len(kept) // batch_size
    cumulative = np.cumsum(weights)
    for number in count(first // per_pass):
        random = np.random.default_rng((seed, number))
        points = (random.random() + np.arange(len(kept))) * (cumulative[-1] / len(kept))
        places = np.minimum(np.searchsorted(cumulative, points, side="right"), len(kept) - 1)
        order = kept[random.permutation(places)]
        for batch in range(first % per_pass if number == first // per_pass else 0, per_pass):
            yield order[batch * batch_size : (batch + 1) * batch_size]


def _seed(seed: int, step: int) -> int:
    return int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0] >> 1)


def _check_finite(loss: float, step: int, recipe: Recipe) -> None:
    if not math.isfinite(loss):
        raise TamisError(
            f"The loss is no longer finite at step {step}.",
            f"Train with a lower learning rate than {recipe.learning_rate}, or a larger batch; margins above 1 and "
            "temperature factors near 0 have the same effect.",
        )


def _settings_hash(
    images: ImageSet,
    spec: EncoderSpec,
    recipe: Recipe,
    total: int,
    kept: Indices,
    weights: npt.NDArray[np.float64],
    flags: Flags | None,
) -> str:
    treated = None if flags is None else flags.digest()
    digest = hashlib.sha256(json.dumps([asdict(spec), asdict(recipe), total, images.sample_ids, treated]).encode())
    for array in (kept, weights):
        digest.update(array.tobytes())
    return digest.hexdigest()
