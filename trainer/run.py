"""Whole trainings: an arm of a manifest, and the probe of what came out."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tamis.checkpoint import Checkpoint, FileCheckpoint
from tamis.device import resolve_device
from tamis.encoders.encoder import Encoder, encoder_bytes, fingerprint
from tamis.encoders.files import load_encoder
from tamis.encoders.inference import embed
from tamis.encoders.spec import choose_spec
from tamis.ingest.located import Find
from tamis.manifest import read_manifest, usable
from tamis.progress import Progress, ignored
from trainer.data import ImageSet
from trainer.flags import manifest_flags
from trainer.labelled import check_labels, embed_source
from trainer.probe import Labelled, Probe, probe, probe_split
from trainer.processes import ALONE, Processes
from trainer.recipe import USUAL, FlagSource, Recipe, check_flag_source, check_texts
from trainer.texts import read_texts
from trainer.training import OnMetrics, remembering, train_encoder

BASELINE = "baseline"


@dataclass(frozen=True)
class TrainingResult:
    """What a training came to.

    probe: trained on all labelled samples of the manifest, removed ones too, and tested on the test source, or on a
    fifth of them that is held out; None without labels. steps, epochs: as trained.
    samples: that were trained on. loss: the mean over the last steps. encoder: its file. seconds: of training alone.
    arm: the manifest's strategy, or `baseline`. recipe: what it was trained by, augmentations among it.
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
    recipe: Recipe

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
    recipe: Recipe = USUAL,
    *,
    images: str | Path | None = None,
    architecture: str = "auto",
    image_size: int | Literal["auto"] = "auto",
    test: str | Path | None = None,
    baseline: bool = False,
    flags: FlagSource = "curated",
    texts: Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    on_metrics: OnMetrics | None = None,
    checkpoint: Checkpoint | None = None,
    find: Find | None = None,
    processes: Processes = ALONE,
) -> TrainingResult:
    """Trains one arm of a manifest and probes it; writes encoder.pt and result.json into `out` (made if absent).

    The arm is what the manifest says: only kept samples, drawn by weight, with margins and temperatures on its pairs.
    flags: what tells which pairs these are, see `trainer/flags.py`. baseline: all samples alike instead, in equally
    many steps. texts: of CLIP, see `read_texts`. images, find: see `ImageSet.from_manifest`.
    architecture, image_size: see `choose_spec`.
    test: labelled images that the encoder never sees, for the probe.
    checkpoint: where an interrupted run is taken up; by default out/checkpoint.pt, removed at the end.
    processes: those that share the training. The first alone writes files and probes.
    Raises InputError for a manifest, images or settings that cannot be trained on, and a test source without labels.
    """
    if not baseline:
        check_flag_source(recipe.method, flags)
    check_texts(recipe.method, texts is not None)
    manifest = read_manifest(manifest_dir)
    told = None if texts is None else read_texts(texts, manifest)
    if test is not None:
        check_labels(test, 1)
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
    began = time.monotonic()
    encoder = train_encoder(
        pixels,
        spec,
        recipe,
        flags=None if baseline else manifest_flags(manifest, flags),
        keep=keep,
        weight=weight,
        device=device,
        checkpoint=own if checkpoint is None else checkpoint,
        progress=progress,
        on_metrics=remembering(last, on_metrics),
        processes=processes,
        texts=told,
    )
    seconds = time.monotonic() - began
    path = out / "encoder.pt"
    found = None
    if processes.first:
        path.write_bytes(encoder_bytes(encoder))
        features = embed(encoder, pixels.pixels, device)
        own_labels = Labelled(features, samples["label"].to_pylist(), samples["sha256"].to_pylist())
        found = _probed(own_labels, test, encoder, device)
    result = TrainingResult(
        arm=BASELINE if baseline else str(manifest.description["strategy"]),
        samples=int((keep & (weight > 0)).sum()),
        epochs=recipe.epochs_for(len(pixels)),
        steps=recipe.steps_for(len(pixels)),
        loss=last["loss"],
        probe=found,
        encoder=path,
        encoder_fingerprint=fingerprint(encoder),
        seed=recipe.seed,
        seconds=seconds,
        recipe=recipe,
    )
    if processes.first:
        (out / "result.json").write_text(json.dumps(result.as_json(), indent=2) + "\n")
        own.discard()
    return result


def probe_checkpoint(
    checkpoint: Path,
    source: str | Path,
    progress: Progress = ignored,
    *,
    test: str | Path | None = None,
    device: str = "auto",
    allow_torchscript: bool = False,
) -> ProbeResult:
    """The probe of an encoder on a labelled source, tested on another, or on a fifth of it that is held out.

    progress, and what is raised: see `embed_source`. Raises InputError for what is no encoder, and for a test source
    without labels.
    """
    if test is not None:
        check_labels(test, 1)
    encoder = load_encoder(checkpoint, allow_torchscript=allow_torchscript)
    own, skipped = embed_source(encoder, source, device, progress)
    return ProbeResult(_probed(own, test, encoder, device), len(own.labels), skipped, fingerprint(encoder))


def _probed(own: Labelled, test: str | Path | None, encoder: Encoder, device: str) -> Probe | None:
    if test is None:
        return probe_split(own, device)
    return probe(own, embed_source(encoder, test, device)[0], device)


def _describe(probe: Probe | None) -> str:
    if probe is None:
        return "no probe, for it takes two labels with 5 images each, in training and test alike"
    fewer = ", ".join(
        f"{float(share):.0%} {found.accuracy:.1%} and {found.nearest:.1%}"
        for share, found in probe.fewer_labels.items()
    )
    return (
        f"linear probe {probe.accuracy:.1%} (95% interval {probe.low:.1%} to {probe.high:.1%}, "
        f"{probe.test} test images, {probe.classes} classes), 20 nearest neighbours {probe.nearest:.1%}; "
        f"by share of the labels: {fewer}"
    )
