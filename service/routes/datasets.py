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

from service import bodies, samples, schemas
from service.archives import attempt, check_archive, discard, open_dataset, queue_archive
from service.auth import this_caller
from service.backend import Backend
from service.deleting import delete_row
from service.events import job_events
from service.requests import CheckedRoute
from service.routes.common import (
    BINARY,
    IMMUTABLE,
    BackendDep,
    Cascade,
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
from tamis.errors import InputError, QuotaError
from tamis.sources import resolved
from tamis.store.quota import ROOM_HINT, claim_room, room_left
from tamis.store.schema import Dataset, new_id

router = APIRouter(route_class=CheckedRoute, prefix="/datasets", tags=["data sets"])


@router.post("", status_code=201)
def create_dataset(
    body: bodies.NewDataset,
    request: Request,
    response: Response,
    backend: BackendDep,
    key: IdempotencyKey = None,
) -> schemas.DatasetView:
    by = this_caller(request).key_id or None

    def make(session: Session) -> Dataset:
        row = Dataset(id=new_id("ds"), name=body.name, state="empty", key_id=by, priority=body.priority)
        session.add(row)
        session.flush()
        return row

    made = create_once(backend, Dataset, "datasets", key, body, make, dataset_view)
    located(response, f"/datasets/{made.id}")
    return made


@router.get("")
def list_datasets(backend: BackendDep, cursor: Cursor = None, limit: Limit = 100) -> schemas.Page[schemas.DatasetView]:
    with backend.catalog.reading() as session:
        return list_page(session, sa.select(Dataset), Dataset, dataset_view, cursor, limit)


@router.get("/{dataset_id}")
def get_dataset(dataset_id: str, backend: BackendDep) -> schemas.DatasetView:
    with backend.catalog.reading() as session:
        return dataset_view(found(session, Dataset, dataset_id))


@router.delete("/{dataset_id}", status_code=204)
def delete_dataset(dataset_id: str, backend: BackendDep, cascade: Cascade = False) -> None:
    """Forgets a data set, cancels its ingest, and frees the objects that nothing else needs; while jobs run, within an
    hour of their end. Where a curation of it has a result, `cascade` deletes them all with it."""
    delete_row(backend, Dataset, dataset_id, cascade=cascade)


@router.post("/{dataset_id}/archive", status_code=202, openapi_extra=BINARY)
async def upload_archive(
    dataset_id: str,
    request: Request,
    backend: BackendDep,
    name: Annotated[str, Query(description="The archive's file name.", max_length=255)] = "archive",
) -> schemas.DatasetView:
    """The bytes of an archive or of a file of many images as the request's body, in any format `tamis curate` reads.

    Streamed to the store, never held whole."""
    expected = int(request.headers.get("content-length", "0"))
    room = await run_in_threadpool(_must_take, backend, dataset_id, expected)
    upload_key = f"uploads/{new_id('up')}"
    size, _ = await backend.objects.put_stream(
        upload_key, _body(request, room), limit=backend.settings.max_upload_bytes
    )
    return await run_in_threadpool(_uploaded, backend, dataset_id, upload_key, Path(name).name, size)


async def _body(request: Request, room: int | None) -> AsyncIterator[bytes]:
    """The body's bytes. Raises QuotaError at more than there is room for, which a body of untold length may have."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if room is not None and size > room:
            raise QuotaError(f"There is room for {room} bytes, and the body has more.", ROOM_HINT)
        if chunk:
            yield chunk


def _uploaded(backend: Backend, dataset_id: str, upload_key: str, name: str, size: int) -> schemas.DatasetView:
    try:
        if size == 0:
            raise InputError("The upload is empty.", "Send the archive's bytes as the request's body.")
        check_archive(backend, upload_key, name)
        with backend.catalog.session() as session:
            row, earlier = queue_archive(backend, session, dataset_id, upload_key, name, size)
            view = dataset_view(row)
    except BaseException:
        discard(backend, upload_key)
        raise
    discard(backend, earlier)
    return view


@router.post("/{dataset_id}/location", status_code=202)
def register_location(dataset_id: str, body: bodies.Location, backend: BackendDep) -> schemas.DatasetView:
    """Registers a folder, file, object or prefix that the server may read; its images are read in place."""
    uri, name = _checked_location(body.uri, backend.settings.allowed_roots)
    with backend.catalog.session() as session:
        row = open_dataset(session, dataset_id, lock=True)
        row.source_uri, row.upload_name, row.upload_key = uri, name, f"location/{new_id('up')}"
        row.bytes = 0
        row.requeue("waiting for a worker")
        backend.jobs.enqueue(session, "ingest", dataset_id, attempt(row.upload_key))
        session.flush()
        return dataset_view(row)


def _checked_location(uri: str, roots: tuple[Path, ...]) -> tuple[str, str]:
    """The address without links in it, and a name; whoever reads it checks again."""
    hint = "Give file:///path, under TAMIS_ALLOWED_ROOTS, or s3://bucket/prefix."
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise InputError(f"{uri!r} is not an address ({error}).", hint) from error
    if parts.scheme == "s3":
        if not parts.netloc or parts.query or parts.fragment:
            raise InputError(f"{uri!r} is not the address of a bucket.", hint)
        return uri, uri.rstrip("/").rpartition("/")[2]
    if parts.scheme not in {"", "file"} or parts.netloc not in {"", "localhost"}:
        raise InputError(f"{uri!r} is not a local address.", hint)
    path = resolved(Path(unquote(parts.path)), roots)
    if not path.exists():
        raise InputError(f"{path} does not exist on the server.", "Give a folder or file that the server can read.")
    return path.as_uri(), path.name


def _must_take(backend: Backend, dataset_id: str, size: int) -> int | None:
    with backend.catalog.session() as session:
        open_dataset(session, dataset_id)
        claim_room(session, backend.settings.quota_bytes, size, dataset_id)
        return room_left(session, backend.settings.quota_bytes, dataset_id)


@router.get("/{dataset_id}/events")
def dataset_events(dataset_id: str, request: Request, backend: BackendDep) -> StreamingResponse:
    return job_events(request, backend, Dataset, dataset_id)


@router.get("/{dataset_id}/samples")
def list_samples(dataset_id: str, backend: BackendDep, cursor: Cursor = None, limit: Limit = 100) -> dict[str, Any]:
    """All samples in order; /curations/{id}/samples tells what a curation found about them, and sorts and filters."""
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
    size: Annotated[bodies.ThumbnailSize, Query(description="Pixels of the longer side, at most.")] = (
        bodies.ThumbnailSize.GRID
    ),
) -> Response:
    """A WebP; of a small image the file itself, as PNG, JPEG or WebP."""
    return _sent(request, backend, samples.find_thumbnail(backend, dataset_id, number, size))


@router.get("/{dataset_id}/samples/{number}/image", response_class=Response)
def get_image(dataset_id: str, number: Number, request: Request, backend: BackendDep) -> Response:
    """The image file as it was sent; as a PNG, where browsers do not show its format."""
    return _sent(request, backend, samples.find_image(backend, dataset_id, number))


def _sent(request: Request, backend: Backend, picture: samples.Thumbnail | samples.FullImage) -> Response:
    headers = {"cache-control": IMMUTABLE, "etag": picture.etag}
    if matches(request, picture.etag):
        return Response(status_code=304, headers=headers)
    content, media_type = picture.read(backend)
    return Response(content, media_type=media_type, headers=headers)


@router.get("/{dataset_id}/quarantine")
def list_quarantine(dataset_id: str, backend: BackendDep, cursor: Cursor = None, limit: Limit = 100) -> dict[str, Any]:
    """What was refused, and why."""
    return samples.quarantine_page(backend, dataset_id, cursor=cursor, limit=limit)
