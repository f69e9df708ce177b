"""The training of an encoder on an ImageSet, by a recipe: its batches, its checkpoints and what it tells."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import count
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from tamis.batches.passes import drawable, one_pass
from tamis.checkpoint import Checkpoint
from tamis.device import has_bf16, resolve_device
from tamis.encoders.brought import embeddings_digest
from tamis.encoders.encoder import Encoder
from tamis.encoders.spec import EncoderSpec
from tamis.errors import InputError, TamisError
from tamis.progress import Progress
from trainer.data import ImageSet
from trainer.flags import Flags
from trainer.forgetting import Forgotten
from trainer.frameworks.byol import BYOL
from trainer.frameworks.clip import CLIP
from trainer.frameworks.learner import Learner
from trainer.frameworks.moco import MoCo
from trainer.frameworks.simclr import SimCLR
from trainer.frameworks.simsiam import SimSiam
from trainer.processes import ALONE, Processes
from trainer.recipe import MIN_SAMPLES, Recipe, check_texts
from trainer.texts import Texts

OnMetrics: TypeAlias = Callable[[int, dict[str, float]], None]


def remembering(last: dict[str, float], on_metrics: OnMetrics | None = None) -> OnMetrics:
    """Calls `on_metrics`, and leaves the latest values in `last`."""

    def note(step: int, metrics: dict[str, float]) -> None:
        last.update(metrics)
        if on_metrics is not None:
            on_metrics(step, metrics)

    return note


Indices: TypeAlias = npt.NDArray[np.int64]

FRAMEWORKS: dict[str, type[Learner]] = {
    "simclr": SimCLR,
    "moco": MoCo,
    "simsiam": SimSiam,
    "byol": BYOL,
    "clip": CLIP,
}
# Steps between two looks at the loss: each look makes a GPU wait. Checkpoints fall on them too.
REPORT_EVERY = 10
# A save is due when the work since the last one took this many times as long as that one did: 2% of the time at most.
WORK_PER_SAVE = 50


def train_encoder(
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
    processes: Processes = ALONE,
    forgotten: Forgotten | None = None,
    texts: Texts | None = None,
) -> Encoder:
    """Trains an encoder; returns it in evaluation mode, on the device.

    flags: which pairs the loss treats. keep: (N,) the samples to train on. weight: (N,) how often each is
    drawn relative to the others; with equal weights every pass shows each sample once. progress(done, total) is called
    after every step and may raise to cancel. on_metrics(step, {"loss", "learning_rate"}) is called every 10 steps and
    after the last, the loss being the mean since the last call.

    All chance comes from (seed, step), so a run that goes on from a checkpoint ends with the same bits as one that
    was never interrupted, on one machine; a checkpoint of other settings or images is passed over. The encoder runs in
    bfloat16 where that is faster (`has_bf16`), else in float32.
    processes: those that share every batch; each calls this with the same arguments. The first alone reads and writes
    the checkpoint, from which other numbers of processes go on too, though not to the same bits.
    forgotten: where SimCLR counts what it forgets, on the device; what is learnt is the same.
    texts: (N, d), embeddings of the images' texts, for CLIP alone.
    Raises InputError when fewer than 4 samples are kept, for flags or texts that the method cannot use, without texts
    that it needs or one for each sample, and for a batch that the processes cannot share evenly; TamisError
    when the loss is no longer finite.
    """
    check_texts(recipe.method, texts is not None)
    if texts is not None and len(texts) != len(images):
        raise InputError(f"There are {len(texts):,} texts and {len(images):,} images.", "Give each image one.")
    kept, share = drawable(len(images), keep, weight)
    if len(kept) < MIN_SAMPLES:
        raise InputError(f"Only {len(kept)} samples are kept.", f"At least {MIN_SAMPLES} are needed to train.")
    total = recipe.steps_for(len(images))
    batch_size = min(recipe.batch_size, len(kept))
    own = processes.share(batch_size)
    own_texts = {} if texts is None else {"texts": texts}
    learner = FRAMEWORKS[recipe.method](spec, recipe, resolve_device(device), total, flags, processes, **own_texts)
    learner.forgotten = forgotten
    settings = _settings_hash(images, spec, recipe, total, kept, share, flags)
    if texts is not None:
        settings += embeddings_digest(texts)
    if forgotten is not None:
        settings += ", counted"
    first = learner.restore(processes.as_first(checkpoint.load), settings) if checkpoint is not None else 0
    batches = _batches(kept, share, batch_size, recipe.seed, first)
    losses: list[torch.Tensor] = []
    save_cost, saved_at = 0.0, time.monotonic()
    for step in range(first + 1, total + 1):
        indices = next(batches)
        losses.append(learner.learn(step, images.pixels[indices[own]], indices))
        if step % REPORT_EVERY == 0 or step == total:
            loss = float(torch.stack(losses).mean())
            losses.clear()
            _check_finite(loss, step, recipe)
            if on_metrics is not None:
                on_metrics(step, {"loss": loss, "learning_rate": learner.learning_rate(step)})
            # The first save is at the first report, so that a place that cannot be written is known early.
            began = time.monotonic()
            due = step < total and began - saved_at >= WORK_PER_SAVE * save_cost
            if checkpoint is not None and processes.first and due:
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
        "batch_size": batch_size,
        "method": recipe.method,
        "loss": recipe.objective,
        "seed": recipe.seed,
    }
    return encoder


def _batches(
    kept: Indices, weights: npt.NDArray[np.float64], batch_size: int, seed: int, first: int
) -> Iterator[Indices]:
    """The batches of steps `first`, `first` + 1, ...: passes over the kept samples, each of full batches only."""
    per_pass = len(kept) // batch_size
    for number in count(first // per_pass):
        order = one_pass(kept, weights, seed, number)
        for batch in range(first % per_pass if number == first // per_pass else 0, per_pass):
            yield order[batch * batch_size : (batch + 1) * batch_size]


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
    digest = hashlib.sha256(json.dumps([asdict(spec), asdict(recipe), total, images.sha256, treated]).encode())
    for array in (kept, weights):
        digest.update(array.tobytes())
    return digest.hexdigest()
