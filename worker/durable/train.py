"""The training job: the trainer on a manifest, with its metrics in the catalogue and its encoder among the objects."""

from typing import Any

from dbos import DBOS

from tamis.encoders.names import encoder_place
from tamis.store.checkpoints import checkpoint_key
from tamis.store.jobs import workflow_id
from tamis.store.schema import Manifest, Metric, Training
from trainer.run import train_manifest
from worker.durable.runtime import StoredCheckpoint, reported, reporter, runtime, step


@DBOS.workflow(name="training")
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
        parameters, prefix = dict(row.parameters), session.get_one(Manifest, row.manifest_id).key
    checkpoint = StoredCheckpoint(run.objects, checkpoint_key(workflow_id("training", training_id), "pt"))
    with run.scratch() as folder:
        for key in run.objects.list(f"{prefix}/"):
            (folder / key.rsplit("/", 1)[1]).write_bytes(run.objects.get(key))
        result = train_manifest(
            folder,
            folder / "out",
            loss=parameters["loss"],
            epochs=parameters["epochs"],
            batch_size=parameters["batch_size"],
            baseline=parameters["baseline"],
            seed=parameters["seed"],
            device=run.settings.device,
            progress=reporter(Training, training_id, "train", "training SimCLR"),
            on_metrics=lambda number, values: _record(training_id, number, values),
            checkpoint=checkpoint,
            shards=run.objects.get,
        )
        key = encoder_place(result.encoder_fingerprint)
        run.objects.put_if_absent(key, result.encoder.read_bytes())
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
