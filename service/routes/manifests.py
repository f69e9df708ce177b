"""Manifests: apply a strategy to a curation's result, and download the tables."""

import re

import sqlalchemy as sa
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from service import schemas
from service.backend import Backend
from service.events import job_events
from service.routes.common import BackendDep, Cursor, IdempotencyKey, Limit, create_once, list_page, located
from service.views import found, manifest_view
from tamis.errors import ConflictError, InputError, NotFoundError
from tamis.manifest import DESCRIPTION, PAIRS, SAMPLES
from tamis.store.catalog import Curation, Manifest, new_id

router = APIRouter(tags=["manifests"])

MEDIA_TYPES = {
    SAMPLES: "application/vnd.apache.parquet",
    PAIRS: "application/vnd.apache.parquet",
    DESCRIPTION: "application/json",
}
BYTE_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@router.post("/curations/{curation_id}/manifests", status_code=201)
def create_manifest(
    curation_id: str, body: schemas.NewManifest, response: Response, backend: BackendDep, key: IdempotencyKey = None
) -> schemas.ManifestView:
    with backend.catalog.session() as session:

        def make() -> Manifest:
            curation = found(session, Curation, curation_id)
            if curation.result_key is None:
                raise ConflictError(f"Curation {curation_id} is {curation.state}.", "Wait until it succeeded.")
            row = Manifest(id=new_id("mf"), curation_id=curation_id, parameters=body.model_dump())
            row.requeue("waiting for a worker")
            session.add(row)
            session.flush()
            backend.jobs.enqueue(session, "manifest", row.id)
            return row

        row = create_once(session, Manifest, f"curations/{curation_id}/manifests", key, body, make)
        located(response, f"/manifests/{row.id}")
        return manifest_view(row)


@router.get("/manifests")
def list_manifests(
    backend: BackendDep, curation: str | None = None, cursor: Cursor = None, limit: Limit = 100
) -> schemas.Page[schemas.ManifestView]:
    query = sa.select(Manifest)
    if curation is not None:
        query = query.where(Manifest.curation_id == curation)
    with backend.catalog.session() as session:
        return list_page(session, query, Manifest, manifest_view, cursor, limit)


@router.get("/manifests/{manifest_id}")
def get_manifest(manifest_id: str, backend: BackendDep) -> schemas.ManifestView:
    with backend.catalog.session() as session:
        return manifest_view(found(session, Manifest, manifest_id))


@router.get("/manifests/{manifest_id}/events")
def manifest_events(manifest_id: str, request: Request, backend: BackendDep) -> StreamingResponse:
    return job_events(request, backend, Manifest, manifest_id)


@router.get("/manifests/{manifest_id}/{name}", response_class=Response)
def download(manifest_id: str, name: str, request: Request, backend: BackendDep) -> Response:
    """samples.parquet, pairs.parquet or manifest.json; ranges and If-None-Match are honoured."""
    if name not in MEDIA_TYPES:
        raise NotFoundError(f"A manifest has no file {name!r}.", f"It has {', '.join(MEDIA_TYPES)}.")
    with backend.catalog.session() as session:
        row = found(session, Manifest, manifest_id)
        if row.key is None:
            raise ConflictError(f"Manifest {manifest_id} is {row.state}.", "Wait until it succeeded.")
        key = f"{row.key}/{name}"
    return _object_response(backend, key, MEDIA_TYPES[name], name, request)


def _object_response(backend: Backend, key: str, media_type: str, name: str, request: Request) -> Response:
    # The key holds the hash of the manifest's content, so it names these bytes for good.
    etag = f'"{key.split("/")[1][:32]}-{name}"'
    headers = {
        "etag": etag,
        "cache-control": "private, max-age=31536000, immutable",
        "accept-ranges": "bytes",
        "content-disposition": f'attachment; filename="{name}"',
    }
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    size = backend.objects.head(key).size
    span = _range(request.headers.get("range"), size)
    if span is None:
        headers["content-length"] = str(size)
        return StreamingResponse(backend.objects.stream(key), media_type=media_type, headers=headers)
    start, end = span
    headers |= {"content-range": f"bytes {start}-{end}/{size}"}
    return Response(backend.objects.get_range(key, start, end - start + 1), 206, headers, media_type)


def _range(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte of a single range; None to send everything."""
    match = BYTE_RANGE.fullmatch(header.strip()) if header else None
    if match is None or match.group(0) == "bytes=-":
        return None
    first, last = match.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    if start > end:
        raise InputError(f"The range {header} lies outside the file's {size} bytes.")
    return start, end
