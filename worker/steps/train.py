"""A training on a manifest whose images are in shards."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tamis.encoders.names import encoder_place
from tamis.ingest.shards import images_in
from tamis.progress import Progress
from trainer.recipes import Taught, taught
from trainer.run import TrainingResult, train_manifest
from trainer.training import OnMetrics
from worker.steps.ingest import Stored
from worker.steps.place import Place, StoredCheckpoint

# Settings that are of no recipe: of a training on a manifest, and of an experiment.
OF_NO_RECIPE = ("recipe", "device", "baseline", "flags", "arms", "seeds")


def train(
    place: Place,
    manifest: str,
    dataset: Stored,
    settings: Mapping[str, Any],
    checkpoint: StoredCheckpoint,
    progress: Progress,
    on_metrics: OnMetrics,
) -> tuple[str, TrainingResult]:
    """Trains on the manifest under the key `manifest`; returns the encoder's key, and what the training came to.

    settings: of `train_manifest`, `taught` and the device, as values of JSON, over those of a recipe that is named.
    checkpoint: for the caller to discard, once the result is recorded.
    """
    lesson = lesson_of(settings)
    with place.scratch() as folder:
        for name, content in place.files(manifest).items():
            (folder / name).write_bytes(content)
        result = train_manifest(
            folder,
            folder / "out",
            lesson.recipe,
            architecture=lesson.architecture,
            image_size=lesson.image_size,
            baseline=settings.get("baseline", False),
            flags=settings.get("flags", "curated"),
            device=place.device_for(settings.get("device", "auto")),
            progress=progress,
            on_metrics=on_metrics,
            checkpoint=checkpoint,
            find=lambda sample_ids: stored_images(place, dataset, sample_ids),
        )
        key = encoder_place(result.encoder_fingerprint)
        place.objects.put_if_absent(key, result.encoder.read_bytes())
        return key, result


def lesson_of(settings: Mapping[str, Any]) -> Taught:
    """What is said of the training itself, over the recipe that is named."""
    given = {name: value for name, value in settings.items() if name not in OF_NO_RECIPE}
    return taught(given, settings.get("recipe"))


def stored_images(place: Place, dataset: Stored, sample_ids: Sequence[str]) -> Iterator[tuple[int, bytes]]:
    """Place and file of each sample among `sample_ids`, shard by shard."""
    return images_in((place.objects.get(shard.key) for shard in dataset.shards), sample_ids)
