"""Manifests: apply a strategy to a curation's result, and download the tables."""

import base64
import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from service import bodies, schemas
from service.backend import Backend
from service.events import job_events
from service.requests import CheckedRoute
from service.routes.common import (
    IMMUTABLE,
    BackendDep,
    Cursor,
    IdempotencyKey,
    Limit,
    create_once,
    list_page,
    located,
    matches,
)
from service.samples import images_of
from service.views import found, made_by, manifest_view
from tamis.errors import NotFoundError
from tamis.exports import Form, as_tar, exported
from tamis.manifest import DESCRIPTION, FEATURES, PAIRS, SAMPLES, read_manifest
from tamis.store.objects import PART, Objects
from tamis.store.schema import Curation, Manifest, new_id

router = APIRouter(route_class=CheckedRoute, tags=["manifests"])

MEDIA_TYPES = {
    SAMPLES: "application/vnd.apache.parquet",
    PAIRS: "application/vnd.apache.parquet",
    FEATURES: "application/octet-stream",
    DESCRIPTION: "application/json",
}
# Eighteen digits fit any file, and any integer type on the way.
BYTE_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


@router.post("/curations/{curation_id}/manifests", status_code=201)
def create_manifest(
    curation_id: str, body: bodies.NewManifest, response: Response, backend: BackendDep, key: IdempotencyKey = None
) -> schemas.ManifestView:
    def make(session: Session) -> Manifest:
        curation = found(session, Curation, curation_id)
        made_by(curation, curation.result_key)
        parameters = body.model_dump(exclude={"priority"})
        row = Manifest(id=new_id("mf"), curation_id=curation_id, parameters=parameters, priority=body.priority)
        row.requeue("waiting for a worker")
        session.add(row)
        session.flush()
        backend.jobs.enqueue(session, "manifest", row.id)
        return row

    made = create_once(backend, Manifest, f"curations/{curation_id}/manifests", key, body, make, manifest_view)
    located(response, f"/manifests/{made.id}")
    return made


@router.get("/manifests")
def list_manifests(
    backend: BackendDep, curation: str | None = None, cursor: Cursor = None, limit: Limit = 100
) -> schemas.Page[schemas.ManifestView]:
    query = sa.select(Manifest)
    if curation is not None:
        query = query.where(Manifest.curation_id == curation)
    with backend.catalog.reading() as session:
        return list_page(session, query, Manifest, manifest_view, cursor, limit)


@router.get("/manifests/{manifest_id}")
def get_manifest(manifest_id: str, backend: BackendDep) -> schemas.ManifestView:
    with backend.catalog.reading() as session:
        return manifest_view(found(session, Manifest, manifest_id))


@router.get("/manifests/{manifest_id}/events")
def manifest_events(manifest_id: str, request: Request, backend: BackendDep) -> StreamingResponse:
    return job_events(request, backend, Manifest, manifest_id)


@router.get("/manifests/{manifest_id}/export", response_class=StreamingResponse)
def export(manifest_id: str, form: Annotated[Form, Query(alias="format")], backend: BackendDep) -> StreamingResponse:
    """The kept samples in the form of another tool, with their images, as a tar archive. Where an image is gone the
    archive ends early."""
    with backend.catalog.reading() as session:
        row = found(session, Manifest, manifest_id)
        key, dataset = made_by(row, row.key), row.curation.dataset_id
    samples = pq.read_table(pa.BufferReader(backend.objects.get(f"{key}/{SAMPLES}")))
    files = exported(samples, form, find=partial(images_of, backend, dataset))
    headers = {"content-disposition": f'attachment; filename="{manifest_id}-{form}.tar"'}
    return StreamingResponse(as_tar(files), media_type="application/x-tar", headers=headers)


@router.get("/manifests/{manifest_id}/report", response_class=Response)
def get_report(manifest_id: str, backend: BackendDep) -> Response:
    """What the manifest says as one HTML file with pictures, to be kept or sent on."""
    # Loads PyTorch, half of what a server would take to start and most of its memory, for this request alone.
    from tamis.report.page import report

    with backend.catalog.reading() as session:
        row = found(session, Manifest, manifest_id)
        prefix, dataset, name = made_by(row, row.key), row.curation.dataset_id, row.curation.dataset.name
    with tempfile.TemporaryDirectory(dir=backend.settings.data) as folder:
        for key in backend.objects.list(f"{prefix}/"):
            (Path(folder) / key.rpartition("/")[2]).write_bytes(backend.objects.get(key))
        manifest = read_manifest(folder)
    find = partial(images_of, backend, dataset)
    headers = {"content-disposition": f'attachment; filename="report-{manifest_id}.html"'}
    return Response(report(manifest, name, find=find), media_type="text/html", headers=headers)


@router.get("/manifests/{manifest_id}/{name}", response_class=Response)
def download(manifest_id: str, name: str, request: Request, backend: BackendDep) -> Response:
    """samples.parquet, pairs.parquet, manifest.json, or features.npy where pairs are treated in the loss.

    Honours Range, If-Range, If-None-Match; the ETag is its SHA-256.
    """
    if name not in MEDIA_TYPES:
        raise NotFoundError(f"A manifest has no file {name!r}.", f"It has {', '.join(MEDIA_TYPES)}.")
    with backend.catalog.reading() as session:
        row = found(session, Manifest, manifest_id)
        prefix = made_by(row, row.key)
    sha256 = _sha256(backend, prefix, name)
    etag = f'"{sha256}"'
    headers = {
        "etag": etag,
        "repr-digest": f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:",
        "cache-control": IMMUTABLE,
        "accept-ranges": "bytes",
        "content-disposition": f'attachment; filename="{name}"',
    }
    if matches(request, etag):
        return Response(status_code=304, headers=headers)
    size = backend.objects.head(f"{prefix}/{name}").size
    asked = request.headers.get("range") if request.headers.get("if-range", etag) == etag else None
    span = _range(asked, size)
    start, end = span or (0, size - 1)
    headers["content-length"] = str(end - start + 1)
    if span is not None:
        headers["content-range"] = f"bytes {start}-{end}/{size}"
    return StreamingResponse(
        _pieces(backend.objects, f"{prefix}/{name}", start, end),
        status_code=200 if span is None else 206,
        media_type=MEDIA_TYPES[name],
        headers=headers,
    )


def _sha256(backend: Backend, prefix: str, name: str) -> str:
    """A file's hash; the tables' stand in the description, so no table is read for it."""
    description = backend.objects.get(f"{prefix}/{DESCRIPTION}")
    if name == DESCRIPTION:
        return hashlib.sha256(description).hexdigest()
    tables = json.loads(description)["tables"]
    if name not in tables:
        raise NotFoundError(f"This manifest has no file {name!r}.", f"It has {', '.join((*tables, DESCRIPTION))}.")
    return str(tables[name]["sha256"])


def _pieces(objects: Objects, key: str, start: int, end: int) -> Iterator[bytes]:
    for place in range(start, end + 1, PART):
        yield objects.get_range(key, place, min(PART, end + 1 - place))


def _range(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte of a single range; None to send everything, as for forms this server does not know.

    Raises a 416 for a range that lies outside the file.
    """
    match = BYTE_RANGE.fullmatch(header.strip()) if header else None
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    if start > end:
        raise HTTPException(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            f"The range lies outside the file's {size} bytes. Ask for a part of it, or for all without Range.",
            headers={"content-range": f"bytes */{size}"},
        )
    return start, end
