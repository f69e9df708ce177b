"""The curation job: embed what is not embedded yet, plan the scan, scan in as many parts as are worth it, and publish
one immutable result. What a part found is the last state of its checkpoint."""

import sqlalchemy as sa

from tamis.store import schema
from tamis.store.catalog import advance, advance_part
from tamis.store.checkpoints import checkpoint_key
from tamis.store.jobs import SCAN_QUEUE, workflow_id
from tamis.store.leases import live_workers
from worker.durable.embed import asked_of, embed_blends, embed_dataset
from worker.durable.runtime import (
    begin_part,
    locked,
    reported,
    runtime,
    stages,
    step,
    stored_dataset,
    throttled,
    workflow,
)
from worker.steps import curate as steps

# A part is worth a worker of its own if it takes so long: every part reads the embeddings, and what it found is stored.
PART_SECONDS = 60.0


@workflow("curation")
def run_curation(curation_id: str) -> None:
    with reported(schema.Curation, curation_id):
        embedding_id = embed_dataset(curation_id)
        blends_key = embed_blends(curation_id, embedding_id)
        queue, parts = plan_scan(curation_id, embedding_id, blends_key)
        if parts > 1:
            handles = [
                begin_part(queue, "scan", curation_id, str(part), run_part, curation_id, embedding_id, part, parts)
                for part in range(parts)
            ]
            for handle in handles:
                handle.get_result()
        find_difficult(curation_id, embedding_id, parts)
        discard_scan(curation_id, embedding_id, parts)


@step
def plan_scan(curation_id: str, embedding_id: str, blends_key: str | None) -> tuple[str, int]:
    """Stores the plan; returns the queue for the scan's parts, and their number."""
    run = runtime()
    request, _ = asked_of(curation_id)
    scan = _scan(curation_id, embedding_id, 1)
    device, seconds = steps.plan_scan(
        run.place, scan.embeddings, blends_key, request, scan.plan, stages(schema.Curation, curation_id)
    )
    listed, queue = ("cpu", SCAN_QUEUE) if device == "cpu" else ("gpu", "gpu")
    parts = number_of_parts(seconds, live_workers(run.catalog, listed))
    if parts > 1:
        advance(run.catalog, schema.Curation, curation_id, message=f"comparing all pairs in {parts} parts")
    return queue, parts


def number_of_parts(seconds: float, workers: int) -> int:
    """One for each worker, as long as each takes at least PART_SECONDS of the scan's estimated time; at least one."""
    return max(1, min(workers, int(seconds / PART_SECONDS)))


@workflow("scan")
def run_part(curation_id: str, embedding_id: str, part: int, parts: int) -> None:
    compare(curation_id, embedding_id, part, parts)


@step
def compare(curation_id: str, embedding_id: str, part: int, parts: int) -> None:
    run = runtime()
    progress = throttled(lambda done, total: advance_part(run.catalog, curation_id, part, parts, done, total))
    steps.compare_part(run.place, _scan(curation_id, embedding_id, parts), part, progress)


@step
def find_difficult(curation_id: str, embedding_id: str, parts: int) -> None:
    """Publishes the result: of a scan done here, or of its parts."""
    run = runtime()
    with run.catalog.session() as session:
        if session.get_one(schema.Curation, curation_id).result_key is not None:
            return
    request, dataset_id = asked_of(curation_id)
    found = steps.find_difficult(
        run.place,
        _scan(curation_id, embedding_id, parts),
        request.score,
        stored_dataset(dataset_id).index,
        stages(schema.Curation, curation_id),
    )
    with run.catalog.session() as session:
        row = locked(session, schema.Curation, curation_id)
        row.embedding_id = embedding_id
        row.result_key, row.summary = found.key, found.summary
        row.succeed(f"{found.summary['pairs']} difficult pairs listed")
        run.jobs.enqueue(session, "layout", curation_id)


@step
def discard_scan(curation_id: str, embedding_id: str, parts: int) -> None:
    """Frees the plan and what the parts found and told, once the result is there."""
    run = runtime()
    with run.catalog.session() as session:
        session.execute(sa.delete(schema.ScanPart).where(schema.ScanPart.curation_id == curation_id))
    steps.discard_scan(run.place, _scan(curation_id, embedding_id, parts))


def _scan(curation_id: str, embedding_id: str, parts: int) -> steps.Scan:
    with runtime().catalog.session() as session:
        embeddings = session.get_one(schema.Embedding, embedding_id).key
    plan = checkpoint_key(workflow_id("plan", curation_id), "npz")
    found = (checkpoint_key(workflow_id("scan", curation_id, str(part)), "npz") for part in range(parts))
    return steps.Scan(embeddings, plan, tuple(found))
