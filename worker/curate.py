"""The curation job: embed what is not embedded yet, then find the difficult examples; one immutable result."""

import hashlib
from typing import Any

import numpy as np
from dbos import DBOS

from tamis.curation import Curation, curate
from tamis.store import schema
from tamis.store.jobs import workflow_id
from worker.embed import embed_dataset
from worker.runtime import StoredCheckpoint, reported, reporter, runtime, step


@DBOS.workflow(name="curation")
def run_curation(curation_id: str) -> None:
    with reported(schema.Curation, curation_id):
        embedding_id = embed_dataset(curation_id)
        find_difficult(curation_id, embedding_id)


@step
def find_difficult(curation_id: str, embedding_id: str) -> None:
    run = runtime()
    with run.catalog.session() as session:
        row = session.get_one(schema.Curation, curation_id)
        if row.result_key is not None:
            return
        parameters = dict(row.parameters)
        key = session.get_one(schema.Embedding, embedding_id).key
    progress = reporter(schema.Curation, curation_id, "curate", "comparing all pairs")
    checkpoint = StoredCheckpoint(run.objects, f"checkpoints/{workflow_id('scan', curation_id)}.npz")
    with run.local(key) as file:
        result = curate(
            np.load(file, mmap_mode="r"),
            classes=parameters["classes"],
            pos_high=parameters["pos_high"],
            pos_low=parameters["pos_low"],
            neighbours=parameters["neighbours"],
            seed=parameters["seed"],
            device=run.settings.device,
            progress=progress,
            checkpoint=checkpoint,
        )
    files = result.files()
    prefix = f"curations/{content_address(files)}"
    for name, content in files.items():
        run.objects.put_if_absent(f"{prefix}/{name}", content)
    with run.catalog.session() as session:
        row = session.get_one(schema.Curation, curation_id, with_for_update=True)
        row.embedding_id = embedding_id
        row.result_key = prefix
        row.summary = summary(result)
        row.succeed(f"{result.pairs.num_rows} difficult pairs listed")
    checkpoint.discard()


def summary(result: Curation) -> dict[str, Any]:
    """The figures of a curation that lists and headers show."""
    described = result.describe()
    histogram = result.histogram
    return {
        **{name: described[name] for name in ("classes", "criteria", "thresholds", "graph")},
        "samples": len(result.cluster),
        "pairs": described["pairs_listed"],
        "counted_pairs": described["pairs_in_band"],
        "total_pairs": histogram.total,
        "histogram": {"edges": histogram.edges.tolist(), "counts": histogram.counts.tolist()},
        "n_d": result.graph.n_d,
        "bound": described["bounds"],
    }


def content_address(files: dict[str, bytes]) -> str:
    """One hash over named files."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode())
        digest.update(files[name])
    return digest.hexdigest()
