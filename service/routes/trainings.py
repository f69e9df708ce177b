"""Trainings on a manifest, and experiments on a curation, with a linear probe where labels exist."""

from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from service import bodies, schemas
from service.events import job_events
from service.requests import CheckedRoute
from service.routes.common import BackendDep, Cursor, IdempotencyKey, Limit, create_once, list_page, located
from service.trainings import curves_of, runs_of, trainings_of
from service.views import found, made_by, training_view
from tamis.errors import ConflictError, NotFoundError
from tamis.store.schema import Curation, Dataset, Manifest, Training, new_id

# What a page of curves shows well; more is thinned.
POINTS = 1000
# Of an experiment that names none, and runs for each.
ARMS = ["remove", "margin", "temperature", "combined", "auto"]
SEEDS = 3

router = APIRouter(route_class=CheckedRoute, prefix="/trainings", tags=["trainings"])


@router.post("", status_code=202)
def create_training(
    body: bodies.NewTraining, response: Response, backend: BackendDep, key: IdempotencyKey = None
) -> schemas.TrainingView:
    """Asks for a training on a manifest, or for an experiment on a curation."""

    def make(session: Session) -> Training:
        about = _about(session, body)
        row = Training(id=new_id("tr"), parameters=_stated(body), priority=body.priority, **about)
        row.requeue("waiting for a worker")
        session.add(row)
        session.flush()
        backend.jobs.enqueue(session, "training", row.id)
        return row

    made = create_once(backend, Training, "trainings", key, body, make, training_view)
    located(response, f"/trainings/{made.id}")
    return made


def _about(session: Session, body: bodies.NewTraining) -> dict[str, str]:
    if body.manifest is not None:
        manifest = found(session, Manifest, body.manifest)
        made_by(manifest, manifest.key)
        return {"manifest_id": manifest.id}
    if body.curation is not None:
        curation = found(session, Curation, body.curation)
        made_by(curation, curation.result_key)
        return {"curation_id": curation.id}
    dataset = found(session, Dataset, str(body.dataset))
    done = sa.select(Curation.id).where(Curation.dataset_id == dataset.id, Curation.result_key.is_not(None))
    latest = session.scalar(done.order_by(Curation.id.desc()).limit(1))
    if latest is None:
        raise ConflictError(f"Data set {dataset.id} has no curation that succeeded.", "Curate it first.")
    return {"curation_id": latest}


def _stated(body: bodies.NewTraining) -> dict[str, Any]:
    """What the worker is told: all, or what was said where a recipe stands for the rest."""
    about = {"manifest", "curation", "dataset", "priority"}
    left_out = about | (bodies.OF_EXPERIMENT if body.manifest else bodies.OF_ONE_TRAINING)
    stated = body.model_dump(exclude=left_out, exclude_unset=body.recipe is not None)
    if body.manifest is None:
        stated |= {"arms": body.arms or ARMS, "seeds": body.seeds or SEEDS}
    return stated


@router.get("")
def list_trainings(
    backend: BackendDep,
    manifest: str | None = None,
    curation: str | None = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> schemas.Page[schemas.TrainingView]:
    """manifest: trainings on it. curation: trainings on its manifests, and experiments on it."""
    query = trainings_of(curation=curation, manifest=manifest)
    with backend.catalog.reading() as session:
        return list_page(session, query, Training, training_view, cursor, limit)


@router.get("/{training_id}")
def get_training(training_id: str, backend: BackendDep) -> schemas.TrainingView:
    with backend.catalog.reading() as session:
        return training_view(found(session, Training, training_id))


@router.get("/{training_id}/events")
def training_events(training_id: str, request: Request, backend: BackendDep) -> StreamingResponse:
    return job_events(request, backend, Training, training_id)


@router.get("/{training_id}/curves")
def get_curves(
    training_id: str, backend: BackendDep, points: Annotated[int, Query(ge=2, le=100_000)] = POINTS
) -> schemas.Curves:
    """Every recorded metric by name, of a run of an experiment as ARM/SEED/METRIC: at most `points` values of each, the
    smallest and the largest of equal stretches of its steps."""
    with backend.catalog.reading() as session:
        found(session, Training, training_id)
        return schemas.Curves(curves=curves_of(session, training_id, points))


@router.get("/{training_id}/encoder", response_class=StreamingResponse)
def get_encoder(training_id: str, backend: BackendDep) -> StreamingResponse:
    """The trained encoder, as `tamis probe` and `--encoder checkpoint:FILE` take it. An experiment keeps none."""
    with backend.catalog.reading() as session:
        row = found(session, Training, training_id)
        if row.manifest_id is None:
            raise NotFoundError(f"{training_id} is an experiment, whose encoders are not kept.", "Train on a manifest.")
        key = made_by(row, row.result)["encoder"]
    headers = {"content-disposition": f'attachment; filename="{training_id}.pt"'}
    return StreamingResponse(backend.objects.stream(key), media_type="application/octet-stream", headers=headers)


@router.get("/{training_id}/runs")
def get_runs(training_id: str, backend: BackendDep) -> schemas.TrainingRuns:
    """The runs of an experiment that have ended; none of a training on a manifest."""
    with backend.catalog.reading() as session:
        found(session, Training, training_id)
        return schemas.TrainingRuns(items=runs_of(session, training_id))
