"""Whole trainings: an arm of a manifest, and the probe of what came out."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from tamis.checkpoint import Checkpoint, FileCheckpoint
from tamis.device import resolve_device
from tamis.encoders.encoder import encoder_bytes, fingerprint
from tamis.encoders.files import load_encoder
from tamis.encoders.inference import Embedder, embed
from tamis.encoders.spec import choose_spec
from tamis.errors import InputError
from tamis.ingest.images import decode
from tamis.manifest import read_manifest
from tamis.progress import Progress
from tamis.sources import Refused, open_source
from trainer.data import Find, ImageSet, usable
from trainer.flags import manifest_flags
from trainer.probe import Probe, linear_probe
from trainer.recipe import FlagSource, Recipe
from trainer.simclr import OnMetrics, train_simclr

BASELINE = "baseline"
EMBED_BLOCK = 1024


@dataclass(frozen=True)
class TrainingResult:
    """What a training came to.

    probe: of all labelled samples of the manifest, removed ones too; None without labels. steps, epochs: as trained.
    samples: that were trained on. loss: the mean over the last steps. encoder: its file. seconds: of training alone.
    arm: the manifest's strategy, or `baseline`.
    """

    arm: str
    samples: int
    epochs: int
    steps: int
    loss: float
    probe: Probe | None
    encoder: Path
    encoder_fingerprint: str
    seed: int
    seconds: float

    def describe(self) -> str:
        return (
            f"{self.arm}: {self.samples} images, {self.steps} steps, loss {self.loss:.3f}, {self.seconds:.0f} s; "
            f"{_describe(self.probe)}"
        )

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "encoder": str(self.encoder)}


@dataclass(frozen=True)
class ProbeResult:
    """samples: embedded. skipped: files of the source that are no image. probe: None where labels are too few."""

    probe: Probe | None
    samples: int
    skipped: int
    encoder_fingerprint: str

    def describe(self) -> str:
        return f"{self.samples} images, {self.skipped} files skipped; {_describe(self.probe)}"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def train_manifest(
    manifest_dir: Path,
    out: Path,
    *,
    images: str | Path | None = None,
    loss: str = "infonce",
    architecture: str = "auto",
    image_size: int | Literal["auto"] = "auto",
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    baseline: bool = False,
    flags: FlagSource = "curated",
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
    on_metrics: OnMetrics | None = None,
    checkpoint: Checkpoint | None = None,
    find: Find | None = None,
) -> TrainingResult:
    """Trains one arm of a manifest and probes it; writes encoder.pt and result.json into `out` (made if absent).

    The arm is what the manifest says: only kept samples, drawn by weight, with margins and temperatures on its pairs.
    flags: what tells which pairs these are, see `trainer/flags.py`. baseline: all samples alike instead, in equally
    many steps. images, find: see `ImageSet.from_manifest`. architecture, image_size: see `choose_spec`. epochs to
    batch_size: see `Recipe`.
    checkpoint: where an interrupted run is taken up; by default out/checkpoint.pt, removed at the end.
    Raises InputError for a manifest, images or settings that cannot be trained on.
    """
    size = {} if batch_size is None else {"batch_size": batch_size}
    recipe = Recipe(epochs=epochs, steps=steps, loss=loss, seed=seed, **size)
    manifest = read_manifest(manifest_dir)
    samples = usable(manifest)
    sides = samples["width"].to_numpy(), samples["height"].to_numpy()
    spec = choose_spec(*sides, device=resolve_device(device).type, architecture=architecture, size=image_size)
    out.mkdir(parents=True, exist_ok=True)
    pixels = ImageSet.from_manifest(manifest, spec.image_size, out, images=images, find=find)
    keep, weight = samples["keep"].to_numpy(), samples["weight"].to_numpy()
    if baseline:
        keep, weight = np.ones(len(pixels), np.bool_), np.ones(len(pixels), np.float32)
    own = FileCheckpoint(out / "checkpoint.pt")
    last = {"loss": float("nan")}

    def note(step: int, metrics: dict[str, float]) -> None:
        last.update(metrics)
        if on_metrics is not None:
            on_metrics(step, metrics)

    began = time.monotonic()
    encoder = train_simclr(
        pixels,
        spec,
        recipe,
        flags=None if baseline else manifest_flags(manifest, flags),
        keep=keep,
        weight=weight,
        device=device,
        checkpoint=own if checkpoint is None else checkpoint,
        progress=progress,
        on_metrics=note,
    )
    seconds = time.monotonic() - began
    path = out / "encoder.pt"
    path.write_bytes(encoder_bytes(encoder))
    features = embed(encoder, pixels.pixels, device)
    result = TrainingResult(
        arm=BASELINE if baseline else str(manifest.description["strategy"]),
        samples=int((keep & (weight > 0)).sum()),
        epochs=recipe.epochs_for(len(pixels)),
        steps=recipe.steps_for(len(pixels)),
        loss=last["loss"],
        probe=linear_probe(features, samples["label"].to_pylist(), samples["sha256"].to_pylist()),
        encoder=path,
        encoder_fingerprint=fingerprint(encoder),
        seed=seed,
        seconds=seconds,
    )
    (out / "result.json").write_text(json.dumps(result.as_json(), indent=2) + "\n")
    own.discard()
    return result


def probe_checkpoint(
    checkpoint: Path,
    source: str | Path,
    progress: Progress | None = None,
    *,
    device: str = "auto",
    allow_torchscript: bool = False,
) -> ProbeResult:
    """The linear probe of an encoder on a labelled source.

    progress(done, total) counts images; total is 0 where the source does not know. Files that are no image are
    skipped. Raises InputError for what is no encoder or no source, or when no image is left.
    """
    encoder = load_encoder(checkpoint, allow_torchscript=allow_torchscript)
    embedder = Embedder.of(encoder, device)
    entries = open_source(source)
    features: list[npt.NDArray[np.float32]] = []
    labels: list[str | None] = []
    sha256: list[str] = []
    block: list[npt.NDArray[np.uint8]] = []
    skipped = 0
    for done, entry in enumerate(entries, 1):
        if isinstance(entry, Refused) or (image := _decoded(entry.data)) is None:
            skipped += 1
        else:
            block.append(encoder.spec.pixels(image))
            labels.append(entry.label)
            sha256.append(hashlib.sha256(entry.data).hexdigest())
        if len(block) == EMBED_BLOCK:
            features.append(embedder.of_pixels(np.stack(block)))
            block.clear()
        if progress is not None:
            progress(done, entries.total or 0)
    if block:
        features.append(embedder.of_pixels(np.stack(block)))
    if not features:
        raise InputError(f"{source} holds no image that can be decoded.", "Give a folder or archive of images.")
    probe = linear_probe(np.concatenate(features), labels, sha256)
    return ProbeResult(probe, len(labels), skipped, fingerprint(encoder))


def _decoded(data: bytes) -> Image.Image | None:
    try:
        return decode(data)
    except InputError:
        return None


def _describe(probe: Probe | None) -> str:
    if probe is None:
        return "no linear probe, for it takes two labels with 5 images each"
    return (
        f"linear probe {probe.accuracy:.1%} (95% interval {probe.low:.1%} to {probe.high:.1%}, "
        f"{probe.test} held-out images, {probe.classes} classes)"
    )
