"""Embeddings the user brings, instead of an encoder of ours."""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
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
    """An .npy or Parquet file as the request's body: one row a sample, in the order of /samples, or named by a column
    `sample_id` or `path` of the Parquet file."""
    await run_in_threadpool(_dataset, backend, dataset_id)
    key = f"uploads/{new_id('up')}"
    await backend.objects.put_stream(key, request.stream(), limit=backend.settings.max_upload_bytes)
    try:
        return await run_in_threadpool(_accept, backend, dataset_id, key)
    finally:
        await run_in_threadpool(backend.objects.delete, key)


def _dataset(backend: Backend, dataset_id: str) -> Dataset:
    with backend.catalog.session() as session:
        row = found(session, Dataset, dataset_id)
        if row.state != "succeeded":
            raise ConflictError(f"Data set {dataset_id} is {row.state}.", "Upload its images first.")
        return row


def _accept(backend: Backend, dataset_id: str, key: str) -> dict[str, Any]:
    # torch comes with this one; a service that is never sent embeddings does not load it.
    from tamis.encoders.brought import save_embeddings
    from tamis.scan.rows import Rows

    dataset = _dataset(backend, dataset_id)
    with tempfile.TemporaryDirectory(dir=backend.settings.data) as folder:
        file = Path(folder) / "embeddings.npy"
        save_embeddings(_read(backend, dataset, key), file)
        array = np.load(file, mmap_mode="r", allow_pickle=False)
        Rows(array)  # raises for rows that cannot be compared
        with file.open("rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        stored = f"embeddings/{sha256}.npy"
        if not backend.objects.exists(stored):
            backend.objects.put(stored, file)
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


def _read(backend: Backend, dataset: Dataset, key: str) -> npt.NDArray[Any]:
    from tamis.encoders.brought import load_embeddings

    file = backend.tables.local(key)
    sample_ids = _column(backend, dataset.index_key, "sample_id")
    try:
        return load_embeddings(file, sample_ids, _column(backend, dataset.quarantine_key, "name").to_pylist())
    except InputError as error:
        # The sender knows nothing of the path the file has here, and need not.
        raise InputError(error.message.replace(str(file), "The file"), error.hint) from error


def _column(backend: Backend, key: str | None, name: str) -> pa.ChunkedArray:
    return pq.read_table(backend.tables.local(str(key)), columns=[name])[name]


def _known(session: Session, dataset_id: str, sha256: str) -> Embedding | None:
    found(session, Dataset, dataset_id, lock=True)
    return session.scalar(
        sa.select(Embedding).where(Embedding.dataset_id == dataset_id, Embedding.encoder_fingerprint == sha256)
    )
