"""An experiment on a curation: the manifests of its arms made, and every arm trained with every seed."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from tamis.progress import Progress
from trainer.arms import planned, strategies_of
from trainer.experiment import OnRun, run_experiment
from trainer.report import JUDGED, report, verdicts
from trainer.results import Runs
from trainer.verdicts import compared, scores_of
from worker.steps.ingest import Stored
from worker.steps.manifest import Treatment, make_manifest
from worker.steps.place import Place, StoredCheckpoint
from worker.steps.request import Request
from worker.steps.train import lesson_of, stored_images


def experiment(
    place: Place,
    result: str,
    dataset: Stored,
    request: Request,
    encoder: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    kept: Callable[[Mapping[str, Any]], Runs],
    checkpoint: StoredCheckpoint,
    progress: Progress,
    on_run: OnRun,
) -> dict[str, Any]:
    """Runs the arms on the curation's result under the key `result`; returns what they came to, as JSON values.

    settings: `arms` and `seeds`, and those of `worker/steps/train.py`. Decisions of people are not laid over: it is the
    rule that is judged. kept, on_run: see `run_experiment`. Raises as `planned` and `run_experiment` do.
    """
    lesson = lesson_of(settings)
    plan = planned(settings["arms"], lesson.recipe)
    with place.scratch() as folder:
        manifests = {strategy: folder / strategy for strategy in strategies_of(plan)}
        for strategy, place_of_it in manifests.items():
            make_manifest(place, result, dataset, request, encoder, Treatment(strategy)).write(place_of_it)
        runs = run_experiment(
            manifests,
            folder,
            plan,
            settings["seeds"],
            lesson.recipe,
            find=lambda sample_ids: stored_images(place, dataset, sample_ids),
            architecture=lesson.architecture,
            image_size=lesson.image_size,
            device=place.device_for(settings.get("device", "auto")),
            progress=progress,
            on_run=on_run,
            kept=kept,
            checkpoint=checkpoint,
        )
    rows = runs.rows()
    scores = {measure: scores_of(rows, plan, measure) for measure in JUDGED}
    return {
        "arms": [arm.name for arm in plan],
        "verdicts": verdicts(rows, plan),
        "compared": {measure: [asdict(each) for each in compared(scores[measure], plan)] for measure in JUDGED},
        "report": "\n".join(report(rows, plan, runs.settings, "this data set")) + "\n",
    }
