"""Embeddings the user brings, instead of an encoder of ours."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from fastapi import APIRouter, Request
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from service.backend import Backend
from service.requests import CheckedRoute
from service.routes.common import BINARY, BackendDep
from service.samples import left_out_names, sample_count, sample_names
from service.views import found
from tamis.encoders.brought import embeddings_digest, in_order, load_embeddings
from tamis.errors import InputError
from tamis.store.schema import Dataset, Embedding, new_id, now

router = APIRouter(route_class=CheckedRoute, tags=["embeddings"])


@router.post("/datasets/{dataset_id}/embeddings", status_code=201, openapi_extra=BINARY)
async def bring_embeddings(dataset_id: str, request: Request, backend: BackendDep) -> dict[str, Any]:
    """An .npy or Parquet file as the request's body: one row a sample, in the order of /samples; or, in Parquet, in any
    order beside a column `sample_id` or `path`."""
    await run_in_threadpool(sample_count, backend, dataset_id)
    key = f"uploads/{new_id('up')}"
    await backend.objects.put_stream(key, request.stream(), limit=backend.settings.max_upload_bytes)
    try:
        return await run_in_threadpool(_accept, backend, dataset_id, key)
    finally:
        await run_in_threadpool(backend.objects.delete, key)


def _accept(backend: Backend, dataset_id: str, key: str) -> dict[str, Any]:
    # torch comes with this one; a service that is never sent embeddings does not load it.
    from tamis.scan.rows import Rows

    array = _read(backend, dataset_id, backend.tables.local(key))
    Rows(array)  # raises for rows that cannot be compared
    sha256 = embeddings_digest(array)
    stored = f"embeddings/{sha256}.npy"
    if not backend.objects.exists(stored):
        _store(backend, stored, array)
    with backend.catalog.session() as session:
        embedding = _known(session, dataset_id, sha256) or Embedding(
            id=new_id("em"),
            dataset_id=dataset_id,
            encoder="embeddings",
            encoder_fingerprint=sha256,
            dimension=array.shape[1],
            count=len(array),
            key=stored,
        )
        # Curations take what was sent last, and a file may be sent again.
        embedding.created_at = now()
        session.add(embedding)
        session.flush()
        return {"id": embedding.id, "dataset": dataset_id, "rows": len(array), "dimension": array.shape[1]}


def _read(backend: Backend, dataset_id: str, file: Path) -> npt.NDArray[Any]:
    """The rows in the order of the samples."""
    try:
        brought = load_embeddings(file)
        samples = partial(sample_names, backend, dataset_id)
        left_out = partial(left_out_names, backend, dataset_id)
        return in_order(brought, sample_count(backend, dataset_id), samples, left_out, str(file))
    except InputError as error:
        # The sender knows nothing of the path the file has here, and need not.
        raise InputError(error.message.replace(str(file), "The file"), error.hint) from error


def _known(session: Session, dataset_id: str, sha256: str) -> Embedding | None:
    found(session, Dataset, dataset_id, lock=True)
    return session.scalar(
        sa.select(Embedding).where(Embedding.dataset_id == dataset_id, Embedding.encoder_fingerprint == sha256)
    )


def _store(backend: Backend, key: str, array: npt.NDArray[Any]) -> None:
    with tempfile.TemporaryDirectory(dir=backend.settings.data) as folder:
        file = Path(folder) / "embeddings.npy"
        np.save(file, array, allow_pickle=False)
        backend.objects.put(key, file)
