"""Rows of the catalogue as the API shows them. The dashboard's pages are rendered from the same values."""

from collections.abc import Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased, defer, joinedload

from service import schemas
from service.cursors import read_cursor, write_cursor
from service.tus import metadata
from tamis.errors import ConflictError, NotFoundError
from tamis.store.schema import (
    Curation,
    Dataset,
    Decision,
    Embedding,
    Job,
    JobLine,
    Manifest,
    StoredEncoder,
    Training,
    Upload,
    model_of,
)

RECENT_JOBS = 50
ACTIVE_STATES = ("queued", "running")
# What `training_view` and `job_view` read of what a training is of; summaries hold histograms and are left out.
OF_TRAINING = (
    joinedload(Training.manifest).joinedload(Manifest.curation).defer(Curation.summary),
    joinedload(Training.curation).defer(Curation.summary),
)

Row = TypeVar("Row")
JobRow = TypeVar("JobRow", bound=Job)
Made = TypeVar("Made")


def found(session: Session, model: type[Row], row_id: str | int, lock: bool = False) -> Row:
    """The row, or NotFoundError. With `lock`, no other transaction changes it before this one ends."""
    row = session.get(model, row_id, with_for_update=lock, populate_existing=lock)
    if row is None:
        raise NotFoundError(f"There is no {model.__name__.lower()} {row_id}.", "The list of its kind shows what is.")
    return row


def made_by(row: Job, made: Made | None) -> Made:
    """What the job of the row has made. Raises ConflictError before there is anything."""
    if made is None:
        raise ConflictError(f"{type(row).__name__} {row.id} is {row.state}.", "Wait until it succeeded.")
    return made


def dataset_view(row: Dataset) -> schemas.DatasetView:
    return schemas.DatasetView(
        **_job_fields(row),
        name=row.name,
        samples=row.samples,
        quarantined=row.quarantined,
        bytes=row.bytes,
        fingerprint=row.fingerprint,
    )


def upload_view(row: Upload) -> schemas.UploadView:
    return schemas.UploadView(
        id=row.id,
        dataset=row.dataset_id,
        dataset_name=row.dataset.name,
        name=row.name,
        size=row.size,
        received=row.received,
        sha256=row.sha256,
        metadata=metadata(row.sent_metadata),
        created_at=row.created_at,
        expires_at=row.expires_at,
    )


def encoder_view(row: StoredEncoder) -> schemas.EncoderView:
    return schemas.EncoderView(
        id=row.id,
        encoder=f"checkpoint:{row.fingerprint}",
        fingerprint=row.fingerprint,
        name=row.name,
        architecture=row.architecture,
        image_size=row.image_size,
        dimension=row.dimension,
        created_at=row.created_at,
    )


def curation_view(row: Curation) -> schemas.CurationView:
    result = {name: value for name, value in row.summary.items() if name != "histogram"} if row.summary else None
    return schemas.CurationView(
        **_job_fields(row),
        name=row.name,
        dataset=row.dataset_id,
        dataset_name=row.dataset.name,
        parameters=row.parameters,
        result=result,
    )


def manifest_view(row: Manifest) -> schemas.ManifestView:
    names = row.summary["files"] if row.summary else {}
    return schemas.ManifestView(
        **_job_fields(row),
        name=row.name,
        curation=row.curation_id,
        parameters=row.parameters,
        result=row.summary,
        files={name: f"/api/v1/manifests/{row.id}/{name}" for name in names},
    )


def curation_of(row: Manifest | Training) -> Curation:
    """What a manifest, a training or an experiment is of."""
    curation = row.curation or (row.manifest.curation if isinstance(row, Training) and row.manifest else None)
    assert curation is not None, "a training has a manifest, or it is an experiment on a curation"
    return curation


def training_view(row: Training) -> schemas.TrainingView:
    curation = curation_of(row)
    return schemas.TrainingView(
        **_job_fields(row),
        manifest=row.manifest_id,
        curation=curation.id,
        dataset=curation.dataset_id,
        dataset_name=curation.dataset.name,
        parameters=row.parameters,
        result=row.result,
    )


def decision_view(row: Decision, undone: bool) -> schemas.DecisionView:
    return schemas.DecisionView(
        id=row.id,
        sample=row.sample,
        verdict=row.verdict,
        note=row.note,
        by=row.by,
        batch=row.batch,
        undone=undone,
        created_at=row.created_at,
    )


def decisions_query(curation_id: str) -> "sa.Select[Decision, bool]":
    """Each decision of a curation, and whether it was undone; the rows that undo are not decisions."""
    undoing = aliased(Decision)
    undone = sa.exists(sa.select(undoing.id).where(undoing.undoes == Decision.id))
    return sa.select(Decision, undone).where(Decision.curation_id == curation_id, Decision.undoes.is_(None))


def decisions_page(
    session: Session,
    curation_id: str,
    *,
    newest: bool,
    limit: int,
    sample: int | None = None,
    cursor: str | None = None,
) -> schemas.Page[schemas.DecisionView]:
    """Decisions on a curation's samples, or on one, in their order or the newest first; those undone included."""
    query = decisions_query(curation_id).order_by(Decision.sequence.desc() if newest else Decision.sequence)
    if cursor is not None:
        place = read_cursor(cursor)
        query = query.where(Decision.sequence < place if newest else Decision.sequence > place)
    if sample is not None:
        query = query.where(Decision.sample == sample)
    rows = session.execute(query.limit(limit + 1)).all()
    return schemas.Page(
        items=[decision_view(row, undone) for row, undone in rows[:limit]],
        next=write_cursor(rows[limit - 1][0].sequence) if len(rows) > limit else None,
    )


def brought_embeddings(dataset_id: str) -> "sa.Select[str]":
    """Ids of the embeddings that were sent for a data set, the latest first."""
    mine = sa.select(Embedding.id).where(Embedding.dataset_id == dataset_id, Embedding.encoder == "embeddings")
    return mine.order_by(Embedding.created_at.desc())


def job_views(session: Session) -> list[schemas.JobView]:
    """The jobs that run or wait, then the latest that ended; each newest first."""
    # Summaries hold histograms, and this is asked several times a second: they are left out.
    of_curation = joinedload(Manifest.curation).defer(Curation.summary)
    ingests = _recent(session, sa.select(Dataset).where(Dataset.state != "empty"), Dataset)
    curations = _recent(session, sa.select(Curation).options(defer(Curation.summary)), Curation)
    manifests = _recent(session, sa.select(Manifest).options(of_curation), Manifest)
    trainings = _recent(session, sa.select(Training).options(*OF_TRAINING), Training)
    views = [job_view(row) for row in (*ingests, *curations, *manifests, *trainings)]
    views.sort(key=lambda view: (view.state in ACTIVE_STATES, view.created_at, view.id), reverse=True)
    return views[:RECENT_JOBS]


def _recent(session: Session, query: "sa.Select[JobRow]", model: type[JobRow]) -> Sequence[JobRow]:
    ended = sa.case((model.state.in_(ACTIVE_STATES), 0), else_=1)
    return session.scalars(query.order_by(ended, model.created_at.desc()).limit(RECENT_JOBS)).all()


def job_row(session: Session, job_id: str, lock: bool = False) -> Job:
    """The row of a job of whatever kind, which its id tells. Raises NotFoundError."""
    model = model_of(job_id)
    row = found(session, model, job_id, lock=lock) if model is not None else None
    if row is None or row.state == "empty":
        raise NotFoundError(f"There is no job {job_id}.", "The list of jobs shows what is.")
    return row


def kind_of(model: type[Job]) -> str:
    """What the job of a row of this model is called, as the queue has it."""
    return "ingest" if model is Dataset else model.__name__.lower()


def job_view(row: Job) -> schemas.JobView:
    if isinstance(row, Dataset):
        dataset, url = row, f"/datasets/{row.id}"
    elif isinstance(row, Curation):
        dataset, url = row.dataset, f"/curations/{row.id}"
    else:
        assert isinstance(row, Manifest | Training)
        curation = curation_of(row)
        dataset = curation.dataset
        url = f"/{'trainings' if isinstance(row, Training) else 'manifests'}/{row.id}"
    about = {"kind": kind_of(type(row)), "dataset": dataset.id, "dataset_name": dataset.name, "url": url}
    return schemas.JobView.model_validate({**_job_fields(row), **about})


def lines_of(row: Job) -> "sa.Select[JobLine]":
    """A job's log."""
    return sa.select(JobLine).where(JobLine.job_id == row.id)


def line_view(row: JobLine) -> schemas.JobLine:
    told = {"state": row.state, "stage": row.stage, "message": row.message, "created_at": row.created_at}
    return schemas.JobLine.model_validate(told)


def _job_fields(row: Job) -> dict[str, Any]:
    return {
        "id": row.id,
        "state": row.state,
        "progress": progress_view(row),
        "error": row.error,
        "priority": row.priority,
        "created_at": row.created_at,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
    }


def progress_view(row: Job) -> schemas.Progress:
    return schemas.Progress(stage=row.stage, done=row.done, total=row.total, message=row.message)
