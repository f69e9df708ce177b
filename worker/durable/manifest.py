"""The manifest job: a strategy applied to a curation's result, with human decisions laid over it."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from dbos import DBOS

from tamis.curation.curation import curation_from_files
from tamis.store.schema import Curation, Dataset, Decision, Embedding, Manifest, Shard
from worker.durable.curate import content_address
from worker.durable.runtime import fields, reported, reporter, runtime, step


@DBOS.workflow(name="manifest")
def run_manifest(manifest_id: str) -> None:
    with reported(Manifest, manifest_id):
        write_manifest(manifest_id)


@step
def write_manifest(manifest_id: str) -> None:
    run = runtime()
    with run.catalog.session() as session:
        row = session.get_one(Manifest, manifest_id)
        if row.key is not None:
            return
        parameters = dict(row.parameters)
        curation = session.get_one(Curation, row.curation_id)
        dataset = fields(session.get_one(Dataset, curation.dataset_id), "fingerprint", "index_key", "samples")
        embedding = session.get_one(Embedding, curation.embedding_id)
        encoder = fields(embedding, "encoder", "encoder_fingerprint", "dimension")
        prefix, curation_parameters = curation.result_key, dict(curation.parameters)
        shard_keys = session.scalars(
            sa.select(Shard.key).where(Shard.dataset_id == curation.dataset_id).order_by(Shard.ordinal)
        ).all()
        decisions = standing_decisions(
            session.scalars(
                sa.select(Decision).where(Decision.curation_id == curation.id).order_by(Decision.sequence)
            ).all()
        )
    reporter(Manifest, manifest_id, "manifest", "writing the tables")
    result = curation_from_files(
        {key.rsplit("/", 1)[1]: run.objects.get(key) for key in run.objects.list(f"{prefix}/")}
    )
    with run.local(dataset["index_key"]) as file:
        samples = with_uris(pq.read_table(file), shard_keys)
    manifest = result.select(
        strategy=parameters["strategy"],
        fraction=parameters["fraction"],
        samples=samples,
        provenance={"dataset": dataset["fingerprint"], "encoder": encoder, "request": curation_parameters},
        decisions=decisions,
        duplicates=parameters["duplicates"],
    )
    files = manifest.files()
    key = f"manifests/{content_address(files)}"
    for name, content in files.items():
        run.objects.put_if_absent(f"{key}/{name}", content)
    kept = int(np.count_nonzero(manifest.samples["keep"].to_numpy()))
    with run.catalog.session() as session:
        row = session.get_one(Manifest, manifest_id, with_for_update=True)
        row.key = key
        row.summary = {
            "samples": manifest.samples.num_rows,
            "kept": kept,
            "pairs": manifest.pairs.num_rows,
            **{name: manifest.description["counts"][name] for name in ("equal_files", "near_duplicates")},
            "files": {name: len(content) for name, content in files.items()},
        }
        row.succeed(f"{kept} of {manifest.samples.num_rows} samples kept")


def standing_decisions(rows: Iterable[Decision]) -> dict[int, bool]:
    """Sample index to keep (True) or drop (False): for each sample the latest decision that was not undone."""
    listed = list(rows)
    undone = {row.undoes for row in listed if row.undoes is not None}
    return {row.sample: row.verdict == "keep" for row in listed if row.undoes is None and row.id not in undone}


def with_uris(index: pa.Table, shard_keys: Iterable[str]) -> pa.Table:
    """The index with each sample's place in the object store as its uri: `tamis:shards/HASH.parquet#ROW`."""
    keys = np.array(list(shard_keys), dtype=object)
    places = zip(keys[index["shard"].to_numpy()], index["row"].to_numpy(), strict=True)
    uris = pa.array([f"tamis:{key}#{row}" for key, row in places], pa.string())
    if "uri" in index.column_names:
        index = index.drop_columns(["uri"])
    return index.append_column("uri", uris)
