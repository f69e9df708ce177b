"""Rows of the catalogue as the API shows them. The dashboard's pages are rendered from the same values."""

from collections.abc import Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

from service import schemas
from service.backend import Backend
from service.pairs import pairs_page
from tamis.errors import NotFoundError
from tamis.store.catalog import Curation, Dataset, Job, Manifest, Training

RECENT_JOBS = 50

Row = TypeVar("Row")


def found(session: Session, model: type[Row], row_id: str) -> Row:
    """The row, or NotFoundError."""
    row = session.get(model, row_id)
    if row is None:
        raise NotFoundError(f"There is no {model.__name__.lower()} {row_id}.", "The list beside it shows what exists.")
    return row


def dataset_view(row: Dataset) -> schemas.DatasetView:
    return schemas.DatasetView(
        **_job_fields(row),
        name=row.name,
        samples=row.samples,
        quarantined=row.quarantined,
        bytes=row.bytes,
        fingerprint=row.fingerprint,
    )


def curation_view(row: Curation) -> schemas.CurationView:
    result = {name: value for name, value in row.summary.items() if name != "histogram"} if row.summary else None
    return schemas.CurationView(
        **_job_fields(row),
        dataset=row.dataset_id,
        dataset_name=row.dataset.name,
        parameters=row.parameters,
        result=result,
    )


def manifest_view(row: Manifest) -> schemas.ManifestView:
    names = row.summary["files"] if row.summary else {}
    return schemas.ManifestView(
        **_job_fields(row),
        curation=row.curation_id,
        parameters=row.parameters,
        result=row.summary,
        files={name: f"/api/v1/manifests/{row.id}/{name}" for name in names},
    )


def training_view(row: Training) -> schemas.TrainingView:
    return schemas.TrainingView(
        **_job_fields(row), manifest=row.manifest_id, parameters=row.parameters, result=row.result
    )


def job_views(session: Session) -> list[schemas.JobView]:
    """The jobs that run or wait, and the latest that ended, newest first."""
    views = [
        _job_view("ingest", row, row, None)
        for row in _recent(session, sa.select(Dataset).where(Dataset.state != "empty"), Dataset)
    ]
    views += [
        _job_view("curation", row, row.dataset, f"/curations/{row.id}")
        for row in _recent(session, sa.select(Curation), Curation)
    ]
    views += [
        _job_view("manifest", row, row.curation.dataset, f"/curations/{row.curation_id}")
        for row in _recent(session, sa.select(Manifest), Manifest)
    ]
    views += [
        _job_view("training", row, row.manifest.curation.dataset, None)
        for row in _recent(session, sa.select(Training), Training)
    ]
    return sorted(views, key=lambda view: (view.created_at, view.id), reverse=True)[:RECENT_JOBS]


def _recent(session: Session, query: "sa.Select[tuple[Row]]", model: Any) -> Sequence[Row]:
    return session.scalars(query.order_by(model.created_at.desc()).limit(RECENT_JOBS)).all()


def _job_view(kind: str, row: Job, dataset: Dataset, url: str | None) -> schemas.JobView:
    return schemas.JobView.model_validate(
        {**_job_fields(row), "kind": kind, "dataset": dataset.id, "dataset_name": dataset.name, "url": url}
    )


def _job_fields(row: Job) -> dict[str, Any]:
    return {
        "id": row.id,
        "state": row.state,
        "progress": progress_view(row),
        "error": row.error,
        "created_at": row.created_at,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
    }


def progress_view(row: Job) -> schemas.Progress:
    return schemas.Progress(stage=row.stage, done=row.done, total=row.total, message=row.message)


class PageViews:
    """The same answers as plain dictionaries, for the dashboard's server-rendered pages."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def datasets(self) -> list[dict[str, Any]]:
        with self._backend.catalog.session() as session:
            rows = session.scalars(sa.select(Dataset).order_by(Dataset.created_at.desc()).limit(500))
            return [dataset_view(row).model_dump(mode="json") for row in rows]

    def dataset(self, dataset_id: str) -> dict[str, Any]:
        with self._backend.catalog.session() as session:
            return dataset_view(found(session, Dataset, dataset_id)).model_dump(mode="json")

    def curations(self, dataset_id: str | None) -> list[dict[str, Any]]:
        query = sa.select(Curation).order_by(Curation.created_at.desc()).limit(500)
        if dataset_id is not None:
            query = query.where(Curation.dataset_id == dataset_id)
        with self._backend.catalog.session() as session:
            return [curation_view(row).model_dump(mode="json") for row in session.scalars(query)]

    def curation(self, curation_id: str) -> dict[str, Any]:
        with self._backend.catalog.session() as session:
            return curation_view(found(session, Curation, curation_id)).model_dump(mode="json")

    def jobs(self) -> list[dict[str, Any]]:
        with self._backend.catalog.session() as session:
            return [view.model_dump(mode="json") for view in job_views(session)]

    def pairs(self, curation_id: str, sort: str, cursor: str | None, limit: int) -> dict[str, Any]:
        return pairs_page(self._backend, curation_id, sort=sort, cursor=cursor, limit=limit)
