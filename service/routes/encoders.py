"""Encoders the user brings: a checkpoint file becomes an encoder that curations name by its fingerprint."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool

from service import schemas
from service.backend import Backend
from service.routes.common import BackendDep
from tamis.errors import InputError
from tamis.registry import encoder_place
from tamis.store.schema import new_id

router = APIRouter(prefix="/encoders", tags=["encoders"])

Architecture = Annotated[
    schemas.Text | None,
    Query(
        pattern="^(torchvision|timm):.+",
        max_length=200,
        description="The network, as torchvision:NAME or timm:NAME, where its weights alone do not tell.",
    ),
]


@router.post("", status_code=201)
async def bring_encoder(
    request: Request, backend: BackendDep, architecture: Architecture = None
) -> schemas.EncoderView:
    """A checkpoint as the request's body; `encoder` of the answer is what POST /curations takes.

    encoder.pt of Tamis, or a state dict as .pt, .pth or .safetensors. No code in it is run: TorchScript is refused
    unless the server's TAMIS_ALLOW_TORCHSCRIPT allows it. The same file again gives the same answer.
    """
    key = f"uploads/{new_id('up')}"
    await backend.objects.put_stream(key, request.stream(), limit=backend.settings.max_upload_bytes)
    try:
        return await run_in_threadpool(_accept, backend, key, architecture)
    finally:
        await run_in_threadpool(backend.objects.delete, key)


def _accept(backend: Backend, key: str, architecture: str | None) -> schemas.EncoderView:
    # torch comes with this one; a service that is never sent an encoder does not load it.
    from tamis.encoders import encoder_bytes, fingerprint, load_encoder

    file: Path = backend.tables.local(key)
    try:
        encoder = load_encoder(file, architecture, allow_torchscript=backend.settings.allow_torchscript)
    except InputError as error:
        # The sender knows nothing of the path the file has here, and need not.
        raise InputError(error.message.replace(str(file), "The file"), error.hint) from error
    name = fingerprint(encoder)
    backend.objects.put_if_absent(encoder_place(name), encoder_bytes(encoder))
    return schemas.EncoderView(
        encoder=f"checkpoint:{name}",
        fingerprint=name,
        architecture=encoder.spec.architecture,
        image_size=encoder.spec.image_size,
        dimension=encoder.dimension,
    )
