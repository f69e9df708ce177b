"""Liveness, readiness and Prometheus metrics. Open to all: they tell no content."""

import sqlalchemy as sa
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, Histogram, generate_latest

from service.backend import Backend
from service.routes.common import BackendDep
from service.views import kind_of
from tamis.store.leases import gpu_memory, live_workers
from tamis.store.quota import bytes_taken, is_unfinished
from tamis.store.schema import JOBS, Dataset, Upload, now

router = APIRouter(tags=["health"])


@router.get("/healthz")
def alive() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/readyz")
def ready(request: Request, backend: BackendDep) -> Response:
    """200 once the database and the object store take what is written; names what does not otherwise."""
    problems = {}
    try:
        with backend.catalog.reading() as session:
            session.execute(sa.text("SELECT 1"))
    except Exception as error:  # whatever the driver raises means the same here
        problems["database"] = type(error).__name__
    try:
        backend.objects.put("ready", b"ok")
    except Exception as error:
        problems["objects"] = type(error).__name__
    body = {"status": "unavailable" if problems else "ok", **problems}
    return JSONResponse(body, 503 if problems else 200)


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request, backend: BackendDep) -> Response:
    return Response(_exposition(backend, request.app.state.requests), media_type=CONTENT_TYPE_LATEST)


def _exposition(backend: Backend, requests: Histogram) -> bytes:
    registry = CollectorRegistry()
    registry.register(requests)
    jobs = Gauge("tamis_jobs", "Jobs in the catalogue.", ["kind", "state"], registry=registry)
    waiting = Gauge("tamis_waiting_seconds", "How long the job that waits longest has.", ["kind"], registry=registry)
    workers = Gauge("tamis_workers", "Workers with a fresh lease.", registry=registry)
    stored = Gauge("tamis_stored_bytes", "Bytes of the data sets.", registry=registry)
    unfinished = Gauge("tamis_upload_bytes", "Bytes that unfinished uploads have claimed.", registry=registry)
    uploads = Gauge("tamis_uploads", "Unfinished uploads.", registry=registry)
    samples = Gauge("tamis_samples", "Samples stored.", registry=registry)
    with backend.catalog.reading() as session:
        for model in JOBS.values():
            kind = kind_of(model)
            for state, count in session.execute(sa.select(model.state, sa.func.count()).group_by(model.state)):
                jobs.labels(kind, state).set(count)
            first = session.scalar(sa.select(sa.func.min(model.created_at)).where(model.state == "queued"))
            waiting.labels(kind).set(0 if first is None else (now() - first).total_seconds())
        samples.set(session.scalar(sa.select(sa.func.coalesce(sa.func.sum(Dataset.samples), 0))) or 0)
        for gauge, count in zip((stored, unfinished), bytes_taken(session), strict=True):
            gauge.set(count)
        uploads.set(session.scalar(sa.select(sa.func.count()).select_from(Upload).where(*is_unfinished())) or 0)
    workers.set(live_workers(backend.catalog))
    memory = Gauge("tamis_gpu_bytes", "Memory of the GPUs of workers.", ["worker", "kind"], registry=registry)
    for worker, used, total in gpu_memory(backend.catalog):
        memory.labels(worker, "used").set(used)
        memory.labels(worker, "total").set(total)
    return generate_latest(registry)
