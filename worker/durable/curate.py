"""The curation job: embed what is not embedded yet, plan the scan, scan in as many parts as are worth it, and publish
one immutable result. What a part found is the last state of its checkpoint."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from dbos import DBOS, SetWorkflowID

from tamis.curation.curation import Curation, assemble
from tamis.curation.duplicates import duplicate_counts, equal_files
from tamis.curation.plan import Plan, make_plan, plan_from_content
from tamis.scan.pairs import merge_parts, scan_all, scan_part, seconds_needed
from tamis.scan.rows import Rows
from tamis.store import schema
from tamis.store.catalog import advance, advance_part
from tamis.store.checkpoints import checkpoint_key
from tamis.store.jobs import SCAN_QUEUE, workflow_id
from tamis.store.leases import live_workers
from worker.durable.embed import embed_blends, embed_dataset, load_blends
from worker.durable.runtime import StoredCheckpoint, reported, reporter, runtime, step, throttled

# A part is worth a worker of its own if it takes so long: every part reads the embeddings, and what it found is stored.
PART_SECONDS = 60.0


@DBOS.workflow(name="curation")
def run_curation(curation_id: str) -> None:
    with reported(schema.Curation, curation_id):
        embedding_id = embed_dataset(curation_id)
        blends_key = embed_blends(curation_id, embedding_id)
        queue, parts = plan_scan(curation_id, embedding_id, blends_key)
        if parts > 1:
            handles = [_enqueue_part(queue, curation_id, embedding_id, part, parts) for part in range(parts)]
            for handle in handles:
                handle.get_result()
        find_difficult(curation_id, embedding_id, parts)
        discard_scan(curation_id, parts)


@step
def plan_scan(curation_id: str, embedding_id: str, blends_key: str | None) -> tuple[str, int]:
    """Stores the plan; returns the queue for the scan's parts, and their number."""
    run = runtime()
    with run.catalog.session() as session:
        parameters = dict(session.get_one(schema.Curation, curation_id).parameters)
    reporter(schema.Curation, curation_id, "curate", "estimating the classes")
    with _rows(embedding_id) as rows:
        plan = make_plan(
            rows,
            classes=parameters["classes"],
            pos_high=parameters["pos_high"],
            pos_low=parameters["pos_low"],
            neighbours=parameters["neighbours"],
            seed=parameters["seed"],
            device=run.settings.device,
            blends=None if blends_key is None else load_blends(blends_key, len(rows), parameters["seed"]),
        )
        columns = None if plan.task.columns is None else len(plan.task.columns)
        seconds = seconds_needed(rows, columns, plan.method)
    run.objects.put(_plan_key(curation_id), plan.content())
    listed, queue = ("cpu", SCAN_QUEUE) if plan.method.device == "cpu" else ("gpu", "gpu")
    parts = number_of_parts(seconds, live_workers(run.catalog, listed))
    if parts > 1:
        advance(run.catalog, schema.Curation, curation_id, message=f"comparing all pairs in {parts} parts")
    return queue, parts


def number_of_parts(seconds: float, workers: int) -> int:
    """One for each worker, as long as each takes at least PART_SECONDS of the scan's estimated time; at least one."""
    return max(1, min(workers, int(seconds / PART_SECONDS)))


def _enqueue_part(queue: str, curation_id: str, embedding_id: str, part: int, parts: int) -> Any:
    with SetWorkflowID(workflow_id("scan", curation_id, str(part))):
        return DBOS.enqueue_workflow(queue, run_part, curation_id, embedding_id, part, parts)


@DBOS.workflow(name="scan")
def run_part(curation_id: str, embedding_id: str, part: int, parts: int) -> None:
    compare(curation_id, embedding_id, part, parts)


@step
def compare(curation_id: str, embedding_id: str, part: int, parts: int) -> None:
    catalog, plan = runtime().catalog, _plan(curation_id)
    progress = throttled(lambda done, total: advance_part(catalog, curation_id, part, parts, done, total))
    with _rows(embedding_id) as rows:
        scan_part(rows, plan.task, plan.method, part, parts, _checkpoint(curation_id, part), progress)


@step
def find_difficult(curation_id: str, embedding_id: str, parts: int) -> None:
    """Publishes the result: of a scan done here, or of its parts."""
    run = runtime()
    with run.catalog.session() as session:
        row = session.get_one(schema.Curation, curation_id)
        if row.result_key is not None:
            return
        score, index_key = row.parameters["score"], row.dataset.index_key
    assert index_key is not None
    plan = _plan(curation_id)
    message = "comparing all pairs" if parts == 1 else f"putting {parts} parts together"
    progress = reporter(schema.Curation, curation_id, "curate", message)
    with _rows(embedding_id) as rows:
        if parts == 1:
            scan = scan_all(rows, plan.task, plan.method, progress, _checkpoint(curation_id, 0))
        else:
            contents = (run.objects.get(_checkpoint(curation_id, part).key) for part in range(parts))
            scan = merge_parts(rows, plan.task, plan.method, contents)
    result = assemble(plan, scan, score)
    with run.local(index_key) as file:
        hashes = pq.read_table(file, columns=["sha256"])["sha256"]
    files = result.files()
    prefix = f"curations/{content_address(files)}"
    for name, content in files.items():
        run.objects.put_if_absent(f"{prefix}/{name}", content)
    with run.catalog.session() as session:
        row = session.get_one(schema.Curation, curation_id, with_for_update=True)
        row.embedding_id = embedding_id
        row.result_key = prefix
        row.summary = summary(result, hashes)
        row.succeed(f"{result.pairs.num_rows} difficult pairs listed")


@step
def discard_scan(curation_id: str, parts: int) -> None:
    """Frees the plan and what the parts found and told, once the result is there."""
    run = runtime()
    with run.catalog.session() as session:
        session.execute(sa.delete(schema.ScanPart).where(schema.ScanPart.curation_id == curation_id))
    run.objects.delete(_plan_key(curation_id))
    for part in range(parts):
        _checkpoint(curation_id, part).discard()


@contextmanager
def _rows(embedding_id: str) -> Iterator[Rows]:
    run = runtime()
    with run.catalog.session() as session:
        key = session.get_one(schema.Embedding, embedding_id).key
    with run.local(key) as file:
        yield Rows(np.load(file, mmap_mode="r"))


def _plan(curation_id: str) -> Plan:
    return plan_from_content(runtime().objects.get(_plan_key(curation_id)))


def _plan_key(curation_id: str) -> str:
    return checkpoint_key(workflow_id("plan", curation_id), "npz")


def _checkpoint(curation_id: str, part: int) -> StoredCheckpoint:
    return StoredCheckpoint(runtime().objects, checkpoint_key(workflow_id("scan", curation_id, str(part)), "npz"))


def summary(result: Curation, hashes: pa.ChunkedArray) -> dict[str, Any]:
    """The figures of a curation that lists and headers show. hashes: of the samples' files."""
    described = result.describe()
    histogram = result.histogram
    return {
        **{name: described[name] for name in ("classes", "criteria", "thresholds", "graph")},
        "samples": len(result.cluster),
        **duplicate_counts(equal_files(hashes), result.near),
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
