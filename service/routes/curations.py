"""Curations: ask for one, follow it, read its figures and its flagged pairs."""

from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from service import bodies, schemas
from service.backend import Backend
from service.bounds import bound_parts
from service.events import job_events
from service.requests import CheckedRoute
from service.routes.common import (
    BackendDep,
    Cursor,
    IdempotencyKey,
    Limit,
    create_once,
    list_page,
    located,
)
from service.views import brought_embeddings, curation_view, found
from tamis.encoders.names import encoder_place, parse_encoder
from tamis.errors import ConflictError, InputError, NotFoundError
from tamis.store.schema import Curation, Dataset, new_id

router = APIRouter(route_class=CheckedRoute, prefix="/curations", tags=["curations"])

MIN_SAMPLES = 4


@router.post("", status_code=202)
def create_curation(
    body: bodies.NewCuration, response: Response, backend: BackendDep, key: IdempotencyKey = None
) -> schemas.CurationView:
    _must_be_had(backend, body)

    def make(session: Session) -> Curation:
        row = Curation(
            id=new_id("cu"),
            dataset_id=body.dataset,
            embedding_id=_embedding_to_use(session, body),
            parameters=body.model_dump(exclude={"dataset", "priority"}),
            priority=body.priority,
        )
        row.requeue("waiting for a worker")
        session.add(row)
        session.flush()
        backend.jobs.enqueue(session, "curation", row.id)
        return row

    made = create_once(backend, Curation, "curations", key, body, make, curation_view)
    located(response, f"/curations/{made.id}")
    return made


def _must_be_had(backend: Backend, body: bodies.NewCuration) -> None:
    """Raises for an encoder of which it is known at once that no worker will find it, or use it so."""
    asked = parse_encoder(body.encoder, server=True)
    asked.check_options(
        body.views, architecture=body.architecture, image_size=body.image_size, epochs=body.epochs, steps=body.steps
    )
    if asked.loads:
        # torch comes with this one; a service that is never asked for a network does not load it.
        from tamis.encoders.loading import check_network

        check_network(asked)
    if asked.kind == "checkpoint" and not backend.objects.exists(encoder_place(asked.file)):
        raise NotFoundError(f"There is no encoder {asked.file}.", "POST its file to /encoders.")


def _embedding_to_use(session: Session, body: bodies.NewCuration) -> str | None:
    """The embedding the user brought, where the request asks for it. Raises when the data set cannot be curated."""
    asked = parse_encoder(body.encoder, server=True)
    dataset = found(session, Dataset, body.dataset)
    if dataset.state != "succeeded":
        raise ConflictError(f"Data set {dataset.id} is {dataset.state}.", "Wait until its images are stored.")
    if dataset.samples < MIN_SAMPLES:
        raise InputError(
            f"Data set {dataset.id} has {dataset.samples} images.", f"A curation compares at least {MIN_SAMPLES}."
        )
    if body.classes != "auto" and body.classes > dataset.samples:
        raise InputError(
            f"{body.classes} classes are more than the {dataset.samples} images of data set {dataset.id}.",
            "Leave classes out to have them estimated.",
        )
    if asked.kind != "embeddings":
        return None
    brought = session.scalar(brought_embeddings(dataset.id).limit(1))
    if brought is None:
        raise ConflictError(
            f"Data set {dataset.id} has no embeddings of yours.", f"POST them to /datasets/{dataset.id}/embeddings."
        )
    return brought


@router.get("")
def list_curations(
    backend: BackendDep, dataset: str | None = None, cursor: Cursor = None, limit: Limit = 100
) -> schemas.Page[schemas.CurationView]:
    query = sa.select(Curation)
    if dataset is not None:
        query = query.where(Curation.dataset_id == dataset)
    with backend.catalog.reading() as session:
        return list_page(session, query, Curation, curation_view, cursor, limit)


@router.get("/{curation_id}")
def get_curation(curation_id: str, backend: BackendDep) -> schemas.CurationView:
    with backend.catalog.reading() as session:
        return curation_view(found(session, Curation, curation_id))


@router.get("/{curation_id}/events")
def curation_events(curation_id: str, request: Request, backend: BackendDep) -> StreamingResponse:
    return job_events(request, backend, Curation, curation_id)


@router.get("/{curation_id}/histogram")
def get_histogram(curation_id: str, backend: BackendDep) -> dict[str, Any]:
    """The similarities of all unordered pairs: `edges` (bins + 1) and `counts`."""
    histogram: dict[str, Any] = _summary(backend, curation_id)["histogram"]
    return histogram


@router.get("/{curation_id}/estimate")
def get_estimate(curation_id: str, backend: BackendDep) -> dict[str, Any]:
    """alpha, beta and gamma with intervals, and the r + 1 they rest on."""
    summary = _summary(backend, curation_id)
    return {"classes": summary["classes"], "n_d": summary["n_d"], **summary["graph"]}


@router.get("/{curation_id}/bound")
def get_bound(curation_id: str, backend: BackendDep) -> dict[str, Any]:
    """The linear probe's error bound with difficult examples, without, and after each remedy, and what it is made of:
    the eigenvalue of each graph, delta, k, and the margin and the temperature that undo the difficult pairs."""
    summary = _summary(backend, curation_id)
    bound: dict[str, Any] = summary["bound"]
    return {**bound, **bound_parts(summary["graph"])}


def _summary(backend: Backend, curation_id: str) -> dict[str, Any]:
    with backend.catalog.reading() as session:
        row = found(session, Curation, curation_id)
        if row.summary is None:
            raise ConflictError(f"Curation {curation_id} is {row.state} and has no result.", "Wait until it succeeded.")
        return dict(row.summary)
