"""The training job: a training on a manifest, with its metrics in the catalogue and its encoder among the objects."""

from typing import Any

from tamis.store.checkpoints import checkpoint_key
from tamis.store.jobs import workflow_id
from tamis.store.schema import Curation, Manifest, Metric, Training
from worker.durable.runtime import reported, reporter, runtime, step, stored_dataset, workflow
from worker.steps import train as steps


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
        manifest = session.get_one(Manifest, row.manifest_id)
        parameters, manifest_key = dict(row.parameters), manifest.key
        dataset_id = session.get_one(Curation, manifest.curation_id).dataset_id
    assert manifest_key is not None
    checkpoint = run.place.checkpoint(checkpoint_key(workflow_id("training", training_id), "pt"))
    key, result = steps.train(
        run.place,
        manifest_key,
        stored_dataset(dataset_id),
        parameters,
        checkpoint,
        reporter(Training, training_id, "train", "training SimCLR"),
        lambda number, values: _record(training_id, number, values),
    )
    with run.catalog.session() as session:
        row = session.get_one(Training, training_id, with_for_update=True)
        row.result = {**result.as_json(), "encoder": key}
        row.succeed(result.describe())
    checkpoint.discard()


def _record(training_id: str, number: int, values: dict[str, Any]) -> None:
    with runtime().catalog.session() as session:
        for name, value in values.items():
            # Merged, because a resumed run passes some steps again.
            session.merge(Metric(training_id=training_id, name=name, step=number, value=float(value)))
