"""Encoders the user brings: a checkpoint file becomes an encoder that curations name by its fingerprint."""

from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool

from service import bodies, schemas
from service.backend import Backend
from service.requests import CheckedRoute
from service.routes.common import BINARY, BackendDep, Cursor, Limit, list_page
from service.views import encoder_view
from tamis.encoders.names import encoder_place
from tamis.errors import InputError
from tamis.store.schema import StoredEncoder, new_id

router = APIRouter(route_class=CheckedRoute, prefix="/encoders", tags=["encoders"])

Architecture = Annotated[
    bodies.Text | None,
    Query(
        pattern="^(torchvision|timm):.+",
        max_length=200,
        description="The network, as torchvision:NAME or timm:NAME, where its weights alone do not tell.",
    ),
]
Name = Annotated[bodies.Text, Query(min_length=1, max_length=255, description="The file's name, for lists.")]


@router.post("", status_code=201, openapi_extra=BINARY)
async def bring_encoder(
    request: Request, backend: BackendDep, architecture: Architecture = None, name: Name = "checkpoint"
) -> schemas.EncoderView:
    """A checkpoint as the request's body; `encoder` of the answer is what POST /curations takes.

    encoder.pt of Tamis, or a state dict as .pt, .pth or .safetensors. No code in it is run: TorchScript is refused
    unless the server's TAMIS_ALLOW_TORCHSCRIPT allows it. The same again gives the same answer.
    """
    key = f"uploads/{new_id('up')}"
    await backend.objects.put_stream(key, request.stream(), limit=backend.settings.max_upload_bytes)
    try:
        row = await run_in_threadpool(_accept, backend, key, architecture, name)
    finally:
        await run_in_threadpool(backend.objects.delete, key)
    return await run_in_threadpool(_recorded, backend, row)


@router.get("")
def list_encoders(backend: BackendDep, cursor: Cursor = None, limit: Limit = 100) -> schemas.Page[schemas.EncoderView]:
    """Those that were sent."""
    with backend.catalog.reading() as session:
        return list_page(session, sa.select(StoredEncoder), StoredEncoder, encoder_view, cursor, limit)


def _accept(backend: Backend, key: str, architecture: str | None, name: str) -> StoredEncoder:
    """Stores the encoder; returns the row that is to stand for it."""
    # torch comes with this one; a service that is never sent an encoder does not load it.
    from tamis.encoders.encoder import encoder_bytes, fingerprint
    from tamis.encoders.files import load_encoder

    file: Path = backend.tables.local(key)
    try:
        encoder = load_encoder(file, architecture, allow_torchscript=backend.settings.allow_torchscript)
    except InputError as error:
        # The sender knows nothing of the path the file has here, and need not.
        raise InputError(error.message.replace(str(file), "The file"), error.hint) from error
    known_as = fingerprint(encoder)
    backend.objects.put_if_absent(encoder_place(known_as), encoder_bytes(encoder))
    return StoredEncoder(
        id=new_id("en"),
        fingerprint=known_as,
        name=name,
        architecture=encoder.spec.architecture,
        image_size=encoder.spec.image_size,
        dimension=encoder.dimension,
    )


def _recorded(backend: Backend, row: StoredEncoder) -> schemas.EncoderView:
    """The first row with these weights, which stays."""
    known = sa.select(StoredEncoder).where(StoredEncoder.fingerprint == row.fingerprint)
    try:
        with backend.catalog.session() as session:
            earlier = session.scalar(known)
            if earlier is not None:
                return encoder_view(earlier)
            session.add(row)
            session.flush()
            return encoder_view(row)
    except sa.exc.IntegrityError:
        # The same weights were sent at the same moment.
        with backend.catalog.session() as session:
            return encoder_view(session.scalars(known).one())
