"""Trainings: run SimCLR on a manifest and report a linear probe where labels exist."""

from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from service import schemas
from service.events import job_events
from service.requests import CheckedRoute
from service.routes.common import BackendDep, Cursor, IdempotencyKey, Limit, create_once, list_page, located
from service.views import found, training_view
from tamis.errors import ConflictError
from tamis.store.schema import Manifest, Metric, Training, new_id

router = APIRouter(route_class=CheckedRoute, prefix="/trainings", tags=["trainings"])


@router.post("", status_code=202)
def create_training(
    body: schemas.NewTraining, response: Response, backend: BackendDep, key: IdempotencyKey = None
) -> schemas.TrainingView:
    def make(session: Session) -> Training:
        manifest = found(session, Manifest, body.manifest)
        if manifest.key is None:
            raise ConflictError(f"Manifest {manifest.id} is {manifest.state}.", "Wait until it succeeded.")
        row = Training(id=new_id("tr"), manifest_id=manifest.id, parameters=_stated(body))
        row.requeue("waiting for a worker")
        session.add(row)
        session.flush()
        backend.jobs.enqueue(session, "training", row.id)
        return row

    made = create_once(backend, Training, "trainings", key, body, make, training_view)
    located(response, f"/trainings/{made.id}")
    return made


def _stated(body: schemas.NewTraining) -> dict[str, Any]:
    """What the worker is told: all, or what was said where a recipe stands for the rest."""
    return body.model_dump(exclude={"manifest"}, exclude_unset=body.recipe is not None)


@router.get("")
def list_trainings(
    backend: BackendDep, manifest: str | None = None, cursor: Cursor = None, limit: Limit = 100
) -> schemas.Page[schemas.TrainingView]:
    query = sa.select(Training)
    if manifest is not None:
        query = query.where(Training.manifest_id == manifest)
    with backend.catalog.session() as session:
        return list_page(session, query, Training, training_view, cursor, limit)


@router.get("/{training_id}")
def get_training(training_id: str, backend: BackendDep) -> schemas.TrainingView:
    with backend.catalog.session() as session:
        return training_view(found(session, Training, training_id))


@router.get("/{training_id}/events")
def training_events(training_id: str, request: Request, backend: BackendDep) -> StreamingResponse:
    return job_events(request, backend, Training, training_id)


@router.get("/{training_id}/curves")
def get_curves(training_id: str, backend: BackendDep) -> dict[str, Any]:
    """Every recorded metric by name: steps and values."""
    curves: dict[str, dict[str, list[float]]] = {}
    with backend.catalog.session() as session:
        found(session, Training, training_id)
        rows = session.scalars(sa.select(Metric).where(Metric.training_id == training_id).order_by(Metric.step))
        for row in rows:
            curve = curves.setdefault(row.name, {"steps": [], "values": []})
            curve["steps"].append(row.step)
            curve["values"].append(row.value)
    return {"curves": curves}
