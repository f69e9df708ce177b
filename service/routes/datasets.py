"""Data sets: create, upload, register a location, look at samples and quarantine."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from service import schemas
from service.backend import Backend
from service.events import job_events
from service.routes.common import BackendDep, Cursor, IdempotencyKey, Limit, create_once, list_page, located
from service.views import dataset_view, found
from tamis.errors import ConflictError, InputError, NotFoundError
from tamis.store.catalog import Dataset, Shard, new_id

router = APIRouter(prefix="/datasets", tags=["data sets"])

# States in which a data set takes (new) content: nothing was stored, or what was sent could not be used.
OPEN_STATES = {"empty", "failed", "cancelled"}
IMMUTABLE = "private, max-age=31536000, immutable"


@router.post("", status_code=201)
def create_dataset(
    body: schemas.NewDataset, response: Response, backend: BackendDep, key: IdempotencyKey = None
) -> schemas.DatasetView:
    with backend.catalog.session() as session:

        def make() -> Dataset:
            row = Dataset(id=new_id("ds"), name=body.name, state="empty")
            session.add(row)
            session.flush()
            return row

        row = create_once(session, Dataset, "datasets", key, body, make)
        located(response, f"/datasets/{row.id}")
        return dataset_view(row)


@router.get("")
def list_datasets(backend: BackendDep, cursor: Cursor = None, limit: Limit = 100) -> schemas.Page[schemas.DatasetView]:
    with backend.catalog.session() as session:
        return list_page(session, sa.select(Dataset), Dataset, dataset_view, cursor, limit)


@router.get("/{dataset_id}")
def get_dataset(dataset_id: str, backend: BackendDep) -> schemas.DatasetView:
    with backend.catalog.session() as session:
        return dataset_view(found(session, Dataset, dataset_id))


@router.delete("/{dataset_id}", status_code=204)
def delete_dataset(dataset_id: str, backend: BackendDep) -> None:
    """Forgets a data set that nothing was made of; cancels its ingest."""
    with backend.catalog.session() as session:
        row = found(session, Dataset, dataset_id)
        if row.curations:
            raise ConflictError(
                f"{len(row.curations)} curations were made of this data set.", "Their manifests refer to it; keep it."
            )
        attempt = row.upload_key
        running = row.state in {"queued", "running"}
        session.delete(row)
    if running:
        backend.jobs.cancel("ingest", dataset_id, _attempt(attempt))


@router.post("/{dataset_id}/archive", status_code=202)
async def upload_archive(
    dataset_id: str,
    request: Request,
    backend: BackendDep,
    name: Annotated[str, Query(description="The archive's file name.", max_length=255)] = "archive",
) -> schemas.DatasetView:
    """The archive's bytes as the request's body: zip, tar, tar.gz or IDX. Streamed to the store, never held whole."""
    await run_in_threadpool(_must_be_open, backend, dataset_id)
    upload_key = f"uploads/{new_id('up')}"
    size, _ = await backend.objects.put_stream(upload_key, _body(request), limit=backend.settings.max_upload_bytes)
    return await run_in_threadpool(_uploaded, backend, dataset_id, upload_key, Path(name).name, size)


async def _body(request: Request) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        if chunk:
            yield chunk


def _uploaded(backend: Backend, dataset_id: str, upload_key: str, name: str, size: int) -> schemas.DatasetView:
    if size == 0:
        backend.objects.delete(upload_key)
        raise InputError("The upload is empty.", "Send the archive's bytes as the request's body.")
    with backend.catalog.session() as session:
        row = _open_dataset(session, dataset_id)
        row.upload_key, row.upload_name, row.source_uri = upload_key, name, None
        row.requeue("waiting for a worker")
        backend.jobs.enqueue(session, "ingest", dataset_id, _attempt(upload_key))
        session.flush()
        return dataset_view(row)


@router.post("/{dataset_id}/location", status_code=202)
def register_location(dataset_id: str, body: schemas.Location, backend: BackendDep) -> schemas.DatasetView:
    """Registers a folder or file that the server may read; its images are read in place."""
    path = _allowed_path(body.uri, backend.settings.allowed_roots)
    with backend.catalog.session() as session:
        row = _open_dataset(session, dataset_id)
        row.source_uri, row.upload_name, row.upload_key = path.as_uri(), path.name, f"location/{new_id('up')}"
        row.requeue("waiting for a worker")
        backend.jobs.enqueue(session, "ingest", dataset_id, _attempt(row.upload_key))
        session.flush()
        return dataset_view(row)


def _allowed_path(uri: str, roots: tuple[Path, ...]) -> Path:
    parts = urlsplit(uri)
    if parts.scheme not in {"", "file"} or parts.netloc not in {"", "localhost"}:
        raise InputError(f"{uri} is not a local address.", "Give a folder as file:///path, under TAMIS_ALLOWED_ROOTS.")
    path = Path(unquote(parts.path)).resolve()
    if not any(path.is_relative_to(root.resolve()) for root in roots):
        raise InputError(
            f"{path} is not under an allowed root.", "Add its folder to TAMIS_ALLOWED_ROOTS and restart the server."
        )
    if not path.exists():
        raise InputError(f"{path} does not exist on the server.", "Give a folder or file that the server can read.")
    return path


def _attempt(upload_key: str | None) -> str:
    """What tells one try at ingest from the next: a failed upload may be followed by a better one."""
    return (upload_key or "").rsplit("/", 1)[-1]


def _must_be_open(backend: Backend, dataset_id: str) -> None:
    with backend.catalog.session() as session:
        _open_dataset(session, dataset_id)


def _open_dataset(session: Session, dataset_id: str) -> Dataset:
    row = found(session, Dataset, dataset_id)
    if row.state not in OPEN_STATES:
        raise ConflictError(f"Data set {dataset_id} is {row.state}.", "Create another data set for other content.")
    return row


@router.get("/{dataset_id}/events")
def dataset_events(dataset_id: str, request: Request, backend: BackendDep) -> StreamingResponse:
    return job_events(request, backend, Dataset, dataset_id)


@router.get("/{dataset_id}/samples")
def list_samples(
    dataset_id: str, backend: BackendDep, first: Annotated[int, Query(ge=0)] = 0, limit: Limit = 100
) -> dict[str, Any]:
    index_key = _ready(backend, dataset_id).index_key
    rows = backend.tables.query(SAMPLES, {"file": str(backend.tables.local(index_key)), "first": first, "limit": limit})
    return {"items": rows, "first": first}


@router.get("/{dataset_id}/samples/{number}")
def get_sample(dataset_id: str, number: int, backend: BackendDep) -> dict[str, Any]:
    return _sample(backend, _ready(backend, dataset_id), number)


@router.get("/{dataset_id}/samples/{number}/thumbnail")
def get_thumbnail(dataset_id: str, number: int, backend: BackendDep) -> Response:
    """A WebP that fits into 96 x 96 pixels."""
    row = _ready(backend, dataset_id)
    sample = _sample(backend, row, number, THUMBNAIL)
    with backend.catalog.session() as session:
        pack = session.scalar(
            sa.select(Shard.thumbnails_key).where(Shard.dataset_id == dataset_id, Shard.ordinal == sample["shard"])
        )
    if pack is None:
        raise NotFoundError(f"Sample {number} has no thumbnail.")
    content = backend.objects.get_range(pack, sample["thumbnail_offset"], sample["thumbnail_length"])
    return Response(content, media_type="image/webp", headers={"cache-control": IMMUTABLE})


@router.get("/{dataset_id}/quarantine")
def list_quarantine(
    dataset_id: str, backend: BackendDep, first: Annotated[int, Query(ge=0)] = 0, limit: Limit = 100
) -> dict[str, Any]:
    """What was refused, and why."""
    row = _ready(backend, dataset_id)
    parameters = {"file": str(backend.tables.local(row.quarantine_key)), "first": first, "limit": limit}
    return {"items": backend.tables.query(QUARANTINE, parameters), "total": row.quarantined, "first": first}


COLUMNS = "file_row_number AS index, sample_id, sha256, width, height, label, size"
SOURCE = "read_parquet($file, file_row_number = true)"
SAMPLES = f"SELECT {COLUMNS} FROM {SOURCE} WHERE file_row_number >= $first ORDER BY file_row_number LIMIT $limit"
SAMPLE = f"SELECT {COLUMNS} FROM {SOURCE} WHERE file_row_number = $number"
THUMBNAIL = f"SELECT shard, thumbnail_offset, thumbnail_length FROM {SOURCE} WHERE file_row_number = $number"
QUARANTINE = f"SELECT name, reason FROM {SOURCE} WHERE file_row_number >= $first ORDER BY file_row_number LIMIT $limit"


def _sample(backend: Backend, row: Dataset, number: int, sql: str = SAMPLE) -> dict[str, Any]:
    rows = backend.tables.query(sql, {"file": str(backend.tables.local(row.index_key)), "number": number})
    if not rows:
        raise NotFoundError(f"Data set {row.id} has no sample {number}.", f"It has {row.samples}, counted from 0.")
    return rows[0]


def _ready(backend: Backend, dataset_id: str) -> Dataset:
    with backend.catalog.session() as session:
        row = found(session, Dataset, dataset_id)
        if row.index_key is None:
            raise ConflictError(f"Data set {dataset_id} is {row.state}.", "Wait until its ingest succeeded.")
        session.expunge(row)
        return row
