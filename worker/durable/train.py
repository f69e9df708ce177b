"""The training job: one on a manifest, or an experiment on a curation; metrics and runs go to the catalogue."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tamis.store.checkpoints import checkpoint_key
from tamis.store.jobs import workflow_id
from tamis.store.schema import Curation, Embedding, Manifest, Metric, Training, TrainingRun
from worker.durable.manifest import described
from worker.durable.runtime import locked, reported, reporter, runtime, step, stored_dataset, workflow
from worker.steps import train as steps
from worker.steps.experiment import experiment
from worker.steps.place import StoredCheckpoint
from worker.steps.request import request_from


@workflow("training")
def run_training(training_id: str) -> None:
    with reported(Training, training_id):
        train(training_id)


@step
def train(training_id: str) -> None:
    run = runtime()
    with run.catalog.session() as session:
        row = session.get_one(Training, training_id)
        if row.result is not None:
            return
        of_manifest = row.manifest_id is not None
    checkpoint = run.place.checkpoint(checkpoint_key(workflow_id("training", training_id), "pt"))
    result, told = (_train if of_manifest else _experiment)(training_id, checkpoint)
    with run.catalog.session() as session:
        row = locked(session, Training, training_id)
        row.result = result
        row.succeed(told)
    checkpoint.discard()


def _train(training_id: str, checkpoint: StoredCheckpoint) -> tuple[dict[str, Any], str]:
    run = runtime()
    with run.catalog.session() as session:
        row = session.get_one(Training, training_id)
        manifest = session.get_one(Manifest, row.manifest_id)
        parameters, manifest_key = dict(row.parameters), manifest.key
        dataset_id = session.get_one(Curation, manifest.curation_id).dataset_id
    assert manifest_key is not None
    key, result = steps.train(
        run.place,
        manifest_key,
        stored_dataset(dataset_id),
        parameters,
        checkpoint,
        reporter(Training, training_id, "train", "training SimCLR"),
        lambda number, values: _record(training_id, number, values),
    )
    return {**result.as_json(), "encoder": key}, result.describe()


def _experiment(training_id: str, checkpoint: StoredCheckpoint) -> tuple[dict[str, Any], str]:
    run = runtime()
    with run.catalog.session() as session:
        row = session.get_one(Training, training_id)
        curation = session.get_one(Curation, row.curation_id)
        embedding = session.get_one(Embedding, curation.embedding_id)
        parameters, result_key, dataset_id = dict(row.parameters), curation.result_key, curation.dataset_id
        request = request_from(curation.parameters)
    assert result_key is not None
    progress = reporter(Training, training_id, "train", "training every arm with every seed")
    result = experiment(
        run.place,
        result_key,
        stored_dataset(dataset_id),
        request,
        described(run.place, embedding, request),
        parameters,
        kept=lambda settings: CatalogRuns(training_id, settings),
        checkpoint=checkpoint,
        progress=progress,
        on_run=lambda arm, seed, number, values: _record(training_id, number, values, f"{arm}/{seed}/"),
    )
    return result, f"{len(result['arms'])} arms with {parameters['seeds']} seeds each"


@dataclass(frozen=True)
class CatalogRuns:
    """The runs of an experiment as rows of the catalogue."""

    training_id: str
    settings: Mapping[str, Any]

    def rows(self) -> list[dict[str, Any]]:
        mine = sa.select(TrainingRun).where(TrainingRun.training_id == self.training_id)
        with runtime().catalog.session() as session:
            found = session.scalars(mine.order_by(TrainingRun.seed, TrainingRun.arm))
            return [{**row.outcome, "arm": row.arm, "seed": row.seed} for row in found]

    def add(self, row: Mapping[str, Any]) -> None:
        outcome = {name: value for name, value in row.items() if name not in ("arm", "seed")}
        with runtime().catalog.session() as session:
            session.merge(TrainingRun(training_id=self.training_id, arm=row["arm"], seed=row["seed"], outcome=outcome))


def _record(training_id: str, number: int, values: Mapping[str, float], before: str = "") -> None:
    with runtime().catalog.session() as session:
        for name, value in values.items():
            # Merged, because a resumed run passes some steps again.
            session.merge(Metric(training_id=training_id, name=before + name, step=number, value=float(value)))
