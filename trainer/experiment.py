"""A controlled experiment: every arm with every seed, equally many steps each, judged on images that none was trained
on. Typed again after whatever ended it, it goes on where it was; with more arms or seeds it adds these."""

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from tamis.checkpoint import Checkpoint, FileCheckpoint
from tamis.device import resolve_device
from tamis.encoders.encoder import Encoder, fingerprint
from tamis.encoders.inference import Embedder
from tamis.encoders.spec import EncoderSpec, choose_spec
from tamis.errors import InputError
from tamis.ingest.located import Find
from tamis.manifest import Manifest, read_manifest, usable
from tamis.progress import Progress, counted_from, ignored
from trainer.arms import Arm
from trainer.data import ImageSet
from trainer.forgetting import Forgotten
from trainer.labelled import LabelledImages, check_labels, decode_source
from trainer.probe import MIN_PER_LABEL, Probe, held_out, probe
from trainer.recipe import Recipe
from trainer.results import FileRuns, Runs, measured
from trainer.training import OnMetrics, remembering, train_encoder
from trainer.trials import VARIED, Flagged, Trial, trial_of

# How layouts call what is to be tested on: a folder, or a file of many images. Where labels of that are kept back, as
# those of ImageNet and its kin are, it is the validation split that one tests on.
TEST_NAME = re.compile(r"(test|testing|t10k)([._-].*)?", re.IGNORECASE)
VALIDATION_NAME = re.compile(r"(val|valid|validation)([._-].*)?", re.IGNORECASE)

# Called with arm, seed, step and the metrics at this step.
OnRun: TypeAlias = Callable[[str, int, int, Mapping[str, float]], None]


def run_experiment(
    manifests: Mapping[str, Path],
    out: Path,
    arms: Sequence[Arm],
    seeds: int,
    recipe: Recipe,
    *,
    images: str | Path | None = None,
    find: Find | None = None,
    test: str | Path | None = None,
    architecture: str = "auto",
    image_size: int | Literal["auto"] = "auto",
    device: str = "auto",
    progress: Progress = ignored,
    on_run: OnRun | None = None,
    kept: Callable[[Mapping[str, Any]], Runs] | None = None,
    checkpoint: Checkpoint | None = None,
) -> Runs:
    """Trains and probes every arm with the seeds 0, 1, ...; keeps what each run came to as soon as it ended.

    manifests: the folder of each strategy that an arm has, all of one curation; any one is enough for the baselines.
    recipe: what VARIED names of it is each run's own. test: labelled images; without it, those that the layout of
    the images sets apart for tests, or else a fifth by hash. Neither is trained on. architecture, image_size: see
    `choose_spec`. images, find: see `ImageSet.from_manifest`. progress(done, total) counts the steps of all runs.
    kept: where the runs of given settings are, by default in out/runs.parquet. checkpoint: where an interrupted run is
    taken up, by default out/checkpoint.pt; gone at the end.

    Two arms that come to the same trial are trained once. Raises InputError where training or test have no two labels
    in common, and where an arm cannot be; ConflictError where `out` holds another experiment.
    """
    read = {strategy: read_manifest(folder) for strategy, folder in manifests.items()}
    any_one = next(iter(read.values()))
    samples = usable(any_one)
    names, hashes = (samples[name].to_pylist() for name in ("sample_id", "sha256"))
    labels = samples["label"].to_pylist()
    tested = set_apart(names, labels, hashes) if test is None else np.zeros(len(names), np.bool_)
    steps = recipe.steps_for(int((~tested).sum()))
    recipe = replace(recipe, epochs=None, steps=steps)
    sides = samples["width"].to_numpy(), samples["height"].to_numpy()
    spec = choose_spec(*sides, device=resolve_device(device).type, architecture=architecture, size=image_size)
    settings = _settings(any_one, spec, recipe, test, int(tested.sum()))
    runs = FileRuns(out, settings) if kept is None else kept(settings)
    checkpoint = FileCheckpoint(out / "checkpoint.pt") if checkpoint is None else checkpoint
    done = {(row["arm"], row["seed"]): row for row in runs.rows()}
    images_of_all = ImageSet.from_manifest(any_one, spec.image_size, out, images=images, find=find)
    _check(labels, tested, test)
    own = _Own(
        LabelledImages(images_of_all.pixels, labels, hashes),
        tested,
        None if test is None else decode_source(test, spec, out),
        device,
    )
    for arm in arms:
        # What no arm can be is told before anything is trained.
        trial_of(arm, read.get(arm.strategy, any_one), tested, recipe)
    total = steps * seeds * len(arms)

    def train(trial: Trial, name: str, told: Progress) -> dict[str, Any]:
        on_metrics = None if on_run is None else partial(on_run, name, trial.recipe.seed)
        return {**_run(trial, images_of_all, own, spec, checkpoint, told, on_metrics), "trial": trial.digest()}

    for number, (seed, arm) in enumerate((seed, arm) for seed in range(seeds) for arm in arms):
        told = counted_from(number * steps, total, progress)
        if (arm.name, seed) not in done:
            trial = trial_of(arm, read.get(arm.strategy, any_one), tested, replace(recipe, seed=seed))
            digest = trial.digest()
            same = next((row for row in done.values() if row["trial"] == digest), None)
            done[arm.name, seed] = {**(same or train(trial, arm.name, told)), "arm": arm.name, "seed": seed}
            runs.add(done[arm.name, seed])
            checkpoint.discard()
        told(steps, steps)
    return runs


def set_apart(sample_ids: Sequence[str], labels: Sequence[str | None], sha256: Sequence[str]) -> Flagged:
    """(N,) bool, which samples not to train on: what the layout names a test, by a folder or file; what it names a
    validation, where no test has labels; or else a fifth by hash."""
    places = [name.split("/")[:-1] for name in sample_ids]
    known = np.array([label is not None for label in labels], np.bool_)
    apart = np.zeros(len(places), np.bool_)
    for kind in (TEST_NAME, VALIDATION_NAME):
        apart |= np.array([any(map(kind.fullmatch, folders)) for folders in places], np.bool_)
        if (apart & known).any() and (~apart & known).any():
            return apart
    return held_out(sha256)


@dataclass(frozen=True, eq=False)
class _Own:
    """How an encoder of the images is judged. test: other images; None to test on those that are `tested`."""

    images: LabelledImages
    tested: Flagged
    test: LabelledImages | None
    device: str

    def probed(self, encoder: Encoder) -> Probe:
        embedder = Embedder.of(encoder, self.device)
        own = self.images.embedded(embedder)
        test = own.pick(self.tested) if self.test is None else self.test.embedded(embedder)
        found = probe(own.pick(~self.tested), test, self.device)
        assert found is not None, "the labels were checked"
        return found


def _check(labels: Sequence[str | None], tested: Flagged, test: str | Path | None) -> None:
    """Raises InputError where no probe could be, before anything is trained."""
    known = Counter(label for label, apart in zip(labels, tested, strict=True) if label and not apart)
    trained = {label for label, count in known.items() if count >= MIN_PER_LABEL}
    if test is not None:
        check_labels(test, 1, trained)
    elif len(trained & {label for label, apart in zip(labels, tested, strict=True) if apart}) < 2:
        raise InputError(
            "Of the images set apart to test on, no two have labels that those to train on have too.",
            "Give more labelled images, or a test source with --test.",
        )


def _run(
    trial: Trial,
    images: ImageSet,
    own: _Own,
    spec: EncoderSpec,
    checkpoint: Checkpoint,
    progress: Progress,
    on_metrics: OnMetrics | None,
) -> dict[str, Any]:
    last: dict[str, float] = {}
    began = time.monotonic()
    keep = trial.keep
    if trial.most_forgotten:
        first, progress = _halves(progress)
        keep = _most_forgotten(trial, images, spec, own.device, checkpoint, first)
    encoder = train_encoder(
        images,
        spec,
        trial.recipe,
        flags=trial.flags,
        keep=keep,
        device=own.device,
        checkpoint=checkpoint,
        progress=progress,
        on_metrics=remembering(last, on_metrics),
    )
    seconds = time.monotonic() - began
    return {
        **measured(own.probed(encoder)),
        "samples": int(keep.sum()),
        "steps": trial.recipe.steps,
        "loss": last["loss"],
        "seconds": seconds,
        "encoder": fingerprint(encoder),
    }


def _most_forgotten(
    trial: Trial, images: ImageSet, spec: EncoderSpec, device: str, checkpoint: Checkpoint, progress: Progress
) -> Flagged:
    """What to keep, by a training on all. Where the second one is cut off, this one is done again."""
    forgotten = Forgotten(len(images), resolve_device(device))
    train_encoder(
        images,
        spec,
        trial.recipe,
        keep=trial.keep,
        device=device,
        checkpoint=checkpoint,
        progress=progress,
        forgotten=forgotten,
    )
    return forgotten.most(trial.keep, trial.most_forgotten, trial.recipe.seed)


def _halves(progress: Progress) -> tuple[Progress, Progress]:
    """Of two trainings that are told of as one."""
    return lambda done, total: progress(done // 2, total), lambda done, total: progress((total + done) // 2, total)


def _settings(
    manifest: Manifest, spec: EncoderSpec, recipe: Recipe, test: str | Path | None, tested: int
) -> dict[str, Any]:
    """What all runs of an experiment have in common."""
    described = {name: manifest.description.get(name) for name in ("dataset", "encoder", "thresholds", "classes")}
    common = {name: value for name, value in asdict(recipe).items() if name not in VARIED}
    return {
        **described,
        "network": asdict(spec),
        "recipe": common,
        "objective": recipe.objective,
        "test": None if test is None else str(test),
        "tested": tested,
    }
