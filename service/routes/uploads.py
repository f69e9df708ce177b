"""Resumable uploads: the tus protocol 1.0 with creation, checksum, expiration and termination."""

from http import HTTPStatus
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Header, HTTPException, Request, Response
from sqlalchemy.orm import Session, joinedload
from starlette.concurrency import run_in_threadpool

from service import bodies, schemas, tus
from service.archives import open_dataset
from service.backend import Backend
from service.receiving import receive
from service.requests import CheckedRoute
from service.routes.common import BackendDep, Cursor, IdempotencyKey, Limit, create_once, list_page, located
from service.views import upload_view
from tamis.errors import ConflictError, InputError, LimitError
from tamis.store.quota import claim_room, is_unfinished
from tamis.store.schema import Upload

router = APIRouter(route_class=CheckedRoute, tags=["uploads"])

TUS = [Depends(tus.speaks_tus)]
Whole = Annotated[str | None, Header(description="A whole number of bytes.")]
Told = Annotated[
    str,
    Header(
        description="Pairs of a key and base 64. `filename` names the archive; `sha256`, in hexadecimal, is compared "
        "at the end; what else is told is kept for the client."
    ),
]
OfBody = Annotated[str | None, Header(description="`sha1` or `sha256`, a space, and the body's digest in base 64.")]
BODY = {"requestBody": {"content": {tus.CONTENT_TYPE: {"schema": {"type": "string", "format": "binary"}}}}}


@router.options("/datasets/{dataset_id}/uploads", status_code=204, include_in_schema=False)
@router.options("/uploads/{upload_id}", status_code=204, include_in_schema=False)
def describe_uploads(response: Response, backend: BackendDep) -> None:
    """What of tus this server speaks, and the largest upload it takes."""
    response.headers.update(tus.capabilities(backend.settings.max_upload_bytes))


@router.post("/datasets/{dataset_id}/uploads", status_code=201, dependencies=TUS)
def create_upload(
    dataset_id: str,
    response: Response,
    backend: BackendDep,
    key: IdempotencyKey = None,
    upload_length: Whole = None,
    upload_metadata: Told = "",
) -> schemas.UploadView:
    """Begins an upload of a data set's archive, to be sent in as many requests as it takes."""
    size, told = tus.whole_number("Upload-Length", upload_length), tus.metadata(upload_metadata)
    body = bodies.NewUpload(dataset=dataset_id, size=size, metadata=upload_metadata)
    largest = backend.settings.max_upload_bytes
    if size == 0:
        raise InputError("The upload is empty.", "Send an archive: zip, tar, tar.gz or IDX.")
    if size > largest:
        raise LimitError(
            f"An upload of {size} bytes is larger than the {largest} this server takes.",
            "Send it in parts as several data sets, or raise TAMIS_MAX_UPLOAD_BYTES.",
        )

    def make(session: Session) -> Upload:
        open_dataset(session, dataset_id)
        claim_room(session, backend.settings.quota_bytes, size, dataset_id)
        return backend.uploads.begin(
            session, dataset_id, tus.file_name(told), size, tus.whole_sha256(told), body.metadata
        )

    made = create_once(backend, Upload, f"uploads of {dataset_id}", key, body, make, upload_view)
    located(response, f"/uploads/{made.id}")
    response.headers.update(tus.expires(made.expires_at))
    return made


@router.get("/uploads")
def list_uploads(
    backend: BackendDep, dataset: str | None = None, cursor: Cursor = None, limit: Limit = 100
) -> schemas.Page[schemas.UploadView]:
    """The unfinished uploads, newest first."""
    query = sa.select(Upload).options(joinedload(Upload.dataset)).where(*is_unfinished())
    if dataset is not None:
        query = query.where(Upload.dataset_id == dataset)
    with backend.catalog.reading() as session:
        return list_page(session, query, Upload, upload_view, cursor, limit)


@router.head("/uploads/{upload_id}", status_code=204, dependencies=TUS)
def get_offset(upload_id: str, response: Response, backend: BackendDep) -> None:
    """How many bytes are kept, in Upload-Offset: where to go on."""
    upload = _upload(backend, upload_id)
    response.headers.update(_state(upload))
    if upload.sent_metadata:
        response.headers["upload-metadata"] = upload.sent_metadata
    response.headers["cache-control"] = "no-store"


@router.patch("/uploads/{upload_id}", status_code=204, dependencies=TUS, openapi_extra=BODY)
async def continue_upload(
    upload_id: str,
    request: Request,
    response: Response,
    backend: BackendDep,
    upload_offset: Whole = None,
    upload_checksum: OfBody = None,
) -> None:
    """Bytes that continue the upload. The last ones give the archive to its data set, once it is checked."""
    if request.headers.get("content-type") != tus.CONTENT_TYPE:
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Send the bytes as Content-Type {tus.CONTENT_TYPE}.")
    start, checksum = tus.whole_number("Upload-Offset", upload_offset), tus.checksum(upload_checksum)
    upload = await run_in_threadpool(_to_continue, backend, upload_id, start)
    await receive(backend, upload, request.stream(), checksum)
    response.headers.update(_state(await run_in_threadpool(_upload, backend, upload_id)))


@router.delete("/uploads/{upload_id}", status_code=204, dependencies=TUS)
def end_upload(upload_id: str, backend: BackendDep) -> None:
    """Gives an unfinished upload up and frees its bytes."""
    upload = _upload(backend, upload_id)
    if upload.received == upload.size:
        raise ConflictError(
            f"Upload {upload_id} is finished.", f"Delete data set {upload.dataset_id} to be rid of its content."
        )
    backend.uploads.remove(upload_id)


@router.post("/uploads/{upload_id}", status_code=204, dependencies=TUS, include_in_schema=False)
async def overridden(
    upload_id: str,
    request: Request,
    response: Response,
    backend: BackendDep,
    upload_offset: Whole = None,
    upload_checksum: OfBody = None,
) -> None:
    """PATCH and DELETE for clients that cannot send these methods."""
    method = request.headers.get("x-http-method-override")
    if method == "PATCH":
        await continue_upload(upload_id, request, response, backend, upload_offset, upload_checksum)
    elif method == "DELETE":
        await run_in_threadpool(end_upload, upload_id, backend)
    else:
        raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED)


def _upload(backend: Backend, upload_id: str) -> Upload:
    with backend.catalog.reading() as session:
        return backend.uploads.get(session, upload_id)


def _to_continue(backend: Backend, upload_id: str, start: int) -> Upload:
    with backend.catalog.reading() as session:
        upload = backend.uploads.ending_at(session, upload_id, start)
        if upload.received < upload.size:
            open_dataset(session, upload.dataset_id)
        return upload


def _state(upload: Upload) -> dict[str, str]:
    state = {"upload-offset": str(upload.received), "upload-length": str(upload.size)}
    return state if upload.received == upload.size else {**state, **tus.expires(upload.expires_at)}
