"""Embeddings the user brings, instead of an encoder of ours."""

import tempfile
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
from service.views import found
from tamis.errors import ConflictError, InputError
from tamis.store.schema import Dataset, Embedding, new_id, now

router = APIRouter(route_class=CheckedRoute, tags=["embeddings"])


@router.post("/datasets/{dataset_id}/embeddings", status_code=201, openapi_extra=BINARY)
async def bring_embeddings(dataset_id: str, request: Request, backend: BackendDep) -> dict[str, Any]:
    """An .npy or Parquet file as the request's body: one row a sample, in the order of /samples."""
    await run_in_threadpool(_sample_count, backend, dataset_id)
    key = f"uploads/{new_id('up')}"
    _, sha256 = await backend.objects.put_stream(key, request.stream(), limit=backend.settings.max_upload_bytes)
    try:
        return await run_in_threadpool(_accept, backend, dataset_id, key, sha256)
    finally:
        await run_in_threadpool(backend.objects.delete, key)


def _sample_count(backend: Backend, dataset_id: str) -> int:
    with backend.catalog.session() as session:
        row = found(session, Dataset, dataset_id)
        if row.state != "succeeded":
            raise ConflictError(f"Data set {dataset_id} is {row.state}.", "Upload its images first.")
        return row.samples


def _accept(backend: Backend, dataset_id: str, key: str, sha256: str) -> dict[str, Any]:
    # torch comes with this one; a service that is never sent embeddings does not load it.
    from tamis.scan.rows import Rows

    array = _read(backend.tables.local(key))
    samples = _sample_count(backend, dataset_id)
    if len(array) != samples:
        raise InputError(
            f"The file has {len(array)} rows and the data set {samples} samples.",
            "Send one row a sample, in the order of /samples.",
        )
    Rows(array)  # raises for rows that cannot be compared
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


def _read(file: Path) -> npt.NDArray[Any]:
    from tamis.encoders.brought import load_embeddings

    try:
        return load_embeddings(file)
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
