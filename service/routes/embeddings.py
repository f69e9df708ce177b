"""Embeddings the user brings, instead of an encoder of ours."""

from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from service.backend import Backend
from service.routes.common import BackendDep
from service.views import found
from tamis.errors import ConflictError, InputError
from tamis.store.catalog import Dataset, Embedding, new_id

router = APIRouter(tags=["embeddings"])


@router.post("/datasets/{dataset_id}/embeddings", status_code=201)
async def bring_embeddings(dataset_id: str, request: Request, backend: BackendDep) -> dict[str, Any]:
    """An .npy or Parquet file as the request's body: one row a sample, in the order of /samples."""
    key = f"uploads/{new_id('up')}"
    _, sha256 = await backend.objects.put_stream(key, request.stream(), limit=backend.settings.max_upload_bytes)
    try:
        return await run_in_threadpool(_accept, backend, dataset_id, key, sha256)
    finally:
        await run_in_threadpool(backend.objects.delete, key)


def _accept(backend: Backend, dataset_id: str, key: str, sha256: str) -> dict[str, Any]:
    # torch comes with these two; a service that is never sent embeddings does not load it.
    from tamis.encoders import load_embeddings
    from tamis.similarity import normalise

    with backend.catalog.session() as session:
        row = found(session, Dataset, dataset_id)
        if row.state != "succeeded":
            raise ConflictError(f"Data set {dataset_id} is {row.state}.", "Upload its images first.")
        samples = row.samples
    array = load_embeddings(backend.tables.local(key))
    if len(array) != samples:
        raise InputError(
            f"The file has {len(array)} rows and the data set {samples} samples.",
            "Send one row a sample, in the order of /samples.",
        )
    normalise(array)
    stored = f"embeddings/{sha256}.npy"
    backend.objects.put_if_absent(stored, _npy(np.asarray(array)))
    with backend.catalog.session() as session:
        embedding = Embedding(
            id=new_id("em"),
            dataset_id=dataset_id,
            encoder="embeddings",
            encoder_fingerprint=sha256,
            dimension=array.shape[1],
            count=len(array),
            key=stored,
        )
        session.add(embedding)
        session.flush()
        return {"id": embedding.id, "dataset": dataset_id, "rows": len(array), "dimension": array.shape[1]}


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    import io

    sink = io.BytesIO()
    np.save(sink, array, allow_pickle=False)
    return sink.getvalue()
