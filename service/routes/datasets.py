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

from service import samples, schemas
from service.backend import Backend
from service.events import job_events
from service.routes.common import (
    IMMUTABLE,
    BackendDep,
    Cursor,
    IdempotencyKey,
    Limit,
    Number,
    create_once,
    list_page,
    located,
    matches,
)
from service.views import dataset_view, found
from tamis.errors import ConflictError, InputError
from tamis.sources import open_source
from tamis.store.schema import Curation, Dataset, new_id

router = APIRouter(prefix="/datasets", tags=["data sets"])

# States in which a data set takes (new) content: nothing was stored, or what was sent could not be used.
OPEN_STATES = {"empty", "failed", "cancelled"}


@router.post("", status_code=201)
def create_dataset(
    body: schemas.NewDataset, response: Response, backend: BackendDep, key: IdempotencyKey = None
) -> schemas.DatasetView:
    def make(session: Session) -> Dataset:
        row = Dataset(id=new_id("ds"), name=body.name, state="empty")
        session.add(row)
        session.flush()
        return row

    made = create_once(backend, Dataset, "datasets", key, body, make, dataset_view)
    located(response, f"/datasets/{made.id}")
    return made


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
        curations = session.scalar(sa.select(sa.func.count()).where(Curation.dataset_id == dataset_id))
        if curations:
            raise ConflictError(
                f"{curations} curations were made of this data set.", "Their manifests refer to it; keep it."
            )
        upload_key = row.upload_key
        running = row.state in {"queued", "running"}
        session.delete(row)
    if running:
        backend.jobs.cancel("ingest", dataset_id, _attempt(upload_key))
    _discard(backend, upload_key)


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
    try:
        if size == 0:
            raise InputError("The upload is empty.", "Send the archive's bytes as the request's body.")
        with backend.objects.open(upload_key) as file:
            open_source(file, name=name)
        with backend.catalog.session() as session:
            row = _open_dataset(session, dataset_id, lock=True)
            earlier, row.upload_key, row.upload_name, row.source_uri = row.upload_key, upload_key, name, None
            row.requeue("waiting for a worker")
            backend.jobs.enqueue(session, "ingest", dataset_id, _attempt(upload_key))
            session.flush()
            view = dataset_view(row)
    except BaseException:
        _discard(backend, upload_key)
        raise
    _discard(backend, earlier)
    return view


@router.post("/{dataset_id}/location", status_code=202)
def register_location(dataset_id: str, body: schemas.Location, backend: BackendDep) -> schemas.DatasetView:
    """Registers a folder or file that the server may read; its images are read in place."""
    path = _allowed_path(body.uri, backend.settings.allowed_roots)
    with backend.catalog.session() as session:
        row = _open_dataset(session, dataset_id, lock=True)
        row.source_uri, row.upload_name, row.upload_key = path.as_uri(), path.name, f"location/{new_id('up')}"
        row.requeue("waiting for a worker")
        backend.jobs.enqueue(session, "ingest", dataset_id, _attempt(row.upload_key))
        session.flush()
        return dataset_view(row)


def _allowed_path(uri: str, roots: tuple[Path, ...]) -> Path:
    hint = "Give a folder as file:///path, under TAMIS_ALLOWED_ROOTS."
    try:
        parts = urlsplit(uri)
        path = Path(unquote(parts.path)).resolve()
    except (ValueError, OSError, RuntimeError) as error:
        raise InputError(f"{uri!r} is not an address ({error}).", hint) from error
    if parts.scheme not in {"", "file"} or parts.netloc not in {"", "localhost"}:
        raise InputError(f"{uri!r} is not a local address.", hint)
    if not any(path.is_relative_to(root.resolve()) for root in roots):
        raise InputError(
            f"{path} is not under an allowed root.", "Add its folder to TAMIS_ALLOWED_ROOTS and restart the server."
        )
    if not path.exists():
        raise InputError(f"{path} does not exist on the server.", "Give a folder or file that the server can read.")
    return path


def _discard(backend: Backend, upload_key: str | None) -> None:
    if upload_key is not None:
        backend.objects.delete(upload_key)


def _attempt(upload_key: str | None) -> str:
    """What tells one try at ingest from the next: a failed upload may be followed by a better one."""
    return (upload_key or "").rsplit("/", 1)[-1]


def _must_be_open(backend: Backend, dataset_id: str) -> None:
    with backend.catalog.session() as session:
        _open_dataset(session, dataset_id)


def _open_dataset(session: Session, dataset_id: str, lock: bool = False) -> Dataset:
    row = found(session, Dataset, dataset_id, lock=lock)
    if row.state not in OPEN_STATES:
        raise ConflictError(f"Data set {dataset_id} is {row.state}.", "Create another data set for other content.")
    return row


@router.get("/{dataset_id}/events")
def dataset_events(dataset_id: str, request: Request, backend: BackendDep) -> StreamingResponse:
    return job_events(request, backend, Dataset, dataset_id)


@router.get("/{dataset_id}/samples")
def list_samples(dataset_id: str, backend: BackendDep, cursor: Cursor = None, limit: Limit = 100) -> dict[str, Any]:
    return samples.samples_page(backend, dataset_id, cursor=cursor, limit=limit)


@router.get("/{dataset_id}/samples/{number}")
def get_sample(dataset_id: str, number: Number, backend: BackendDep) -> dict[str, Any]:
    return samples.one_sample(backend, dataset_id, number)


@router.get("/{dataset_id}/samples/{number}/thumbnail", response_class=Response)
def get_thumbnail(
    dataset_id: str,
    number: Number,
    request: Request,
    backend: BackendDep,
    size: Annotated[schemas.ThumbnailSize, Query(description="Pixels of the longer side, at most.")] = (
        schemas.ThumbnailSize.GRID
    ),
) -> Response:
    """A WebP; of a small image the file itself, as PNG, JPEG or WebP."""
    thumbnail = samples.find_thumbnail(backend, dataset_id, number, size)
    headers = {"cache-control": IMMUTABLE, "etag": thumbnail.etag}
    if matches(request, thumbnail.etag):
        return Response(status_code=304, headers=headers)
    content, media_type = thumbnail.read(backend)
    return Response(content, media_type=media_type, headers=headers)


@router.get("/{dataset_id}/quarantine")
def list_quarantine(dataset_id: str, backend: BackendDep, cursor: Cursor = None, limit: Limit = 100) -> dict[str, Any]:
    """What was refused, and why."""
    return samples.quarantine_page(backend, dataset_id, cursor=cursor, limit=limit)
