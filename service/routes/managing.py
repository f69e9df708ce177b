"""Names of what there is, and its end: renamed and deleted, or cancelled where it has not ended."""

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from service import bodies, schemas
from service.backend import Backend
from service.deleting import cancel_or_delete, delete_encoder
from service.requests import CheckedRoute
from service.routes.common import BackendDep, Cascade
from service.views import curation_view, dataset_view, found, manifest_view, training_view
from tamis.store.schema import Curation, Dataset, Job, Manifest, Training

router = APIRouter(route_class=CheckedRoute, tags=["managing"])

View = TypeVar("View", bound=BaseModel)


def _cancelled(view: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """How the description tells of the other answer to a DELETE."""
    return {202: {"model": view, "description": "It waited or ran, and is cancelled."}}


@router.patch("/datasets/{dataset_id}")
def rename_dataset(dataset_id: str, body: bodies.Rename, backend: BackendDep) -> schemas.DatasetView:
    return _renamed(backend, Dataset, dataset_id, body, dataset_view)


@router.patch("/curations/{curation_id}")
def rename_curation(curation_id: str, body: bodies.Rename, backend: BackendDep) -> schemas.CurationView:
    return _renamed(backend, Curation, curation_id, body, curation_view)


@router.patch("/manifests/{manifest_id}")
def rename_manifest(manifest_id: str, body: bodies.Rename, backend: BackendDep) -> schemas.ManifestView:
    return _renamed(backend, Manifest, manifest_id, body, manifest_view)


@router.delete("/curations/{curation_id}", status_code=204, responses=_cancelled(schemas.CurationView))
def delete_curation(curation_id: str, backend: BackendDep, cascade: Cascade = False) -> Response:
    """Cancels a curation that waits or runs; deletes one that ended, with `cascade` its manifests and decisions too."""
    return _ended(backend, Curation, curation_id, cascade, curation_view)


@router.delete("/manifests/{manifest_id}", status_code=204, responses=_cancelled(schemas.ManifestView))
def delete_manifest(manifest_id: str, backend: BackendDep, cascade: Cascade = False) -> Response:
    """Cancels a manifest that waits or is written; deletes one that ended, with `cascade` its trainings too."""
    return _ended(backend, Manifest, manifest_id, cascade, manifest_view)


@router.delete("/trainings/{training_id}", status_code=204, responses=_cancelled(schemas.TrainingView))
def delete_training(training_id: str, backend: BackendDep, cascade: Cascade = False) -> Response:
    """Cancels a training that waits or runs; deletes one that ended, its curves and its encoder."""
    return _ended(backend, Training, training_id, cascade, training_view)


@router.delete("/encoders/{encoder_id}", status_code=204)
def forget_encoder(encoder_id: str, backend: BackendDep) -> None:
    """Deletes an encoder that was sent, if no curation uses it: features can be made again only by it."""
    delete_encoder(backend, encoder_id)


def _renamed(backend: Backend, model: type[Any], row_id: str, body: bodies.Rename, view: Callable[[Any], View]) -> View:
    with backend.catalog.session() as session:
        row = found(session, model, row_id, lock=True)
        row.name = body.name
        return view(row)


def _ended(
    backend: Backend, model: type[Job], row_id: str, cascade: bool, view: Callable[[Any], BaseModel]
) -> Response:
    if not cancel_or_delete(backend, model, row_id, cascade=cascade):
        return Response(status_code=204)
    with backend.catalog.session() as session:
        return JSONResponse(view(found(session, model, row_id)).model_dump(mode="json"), 202)
