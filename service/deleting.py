"""Deleting for good, one way for every kind: the row, on request what depends on it, and the objects that nothing else
needs."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from service.archives import discard
from service.backend import Backend
from service.views import ACTIVE_STATES, found, kind_of
from tamis.errors import BusyError, ConflictError
from tamis.store.catalog import cancel
from tamis.store.garbage import collect_garbage, needed
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
)

# By which column rows of other kinds depend on one.
DEPENDS: dict[type[Any], tuple[Any, ...]] = {
    Dataset: (Curation.dataset_id,),
    Curation: (Training.curation_id, Manifest.curation_id, Decision.curation_id),
    Manifest: (Training.manifest_id,),
}
WITHOUT_RESULT = ("failed", "cancelled")
NAMED = 3


def cancel_or_delete(backend: Backend, model: type[Job], row_id: str, *, cascade: bool) -> bool:
    """Cancels a job that waits or runs, and deletes one that ended; returns whether it was cancelled.

    Raises NotFoundError, and ConflictError as `delete_row` does.
    """
    with backend.catalog.session() as session:
        row = found(session, model, row_id)
    active = row.state in ACTIVE_STATES
    if active:
        cancel_row(backend, row)
    else:
        delete_row(backend, model, row_id, cascade=cascade)
    return active


def cancel_row(backend: Backend, row: Job) -> None:
    """Cancels what waits or runs. Raises ConflictError when it has ended."""
    # Named before the row says so: what is tried again from then on is another attempt, and goes on.
    tries = backend.jobs.tries(kind_of(type(row)), row.id)
    cancel(backend.catalog, type(row), row.id)
    backend.jobs.cancel(tries)


def delete_row(backend: Backend, model: type[Job], row_id: str, *, cascade: bool) -> None:
    """Deletes a row, and with `cascade` all that depends on it, in one transaction; then frees their objects, which
    while jobs run happens within an hour of their end.

    What depends on it and has no result, since it failed or was cancelled, goes without being asked for. Raises
    NotFoundError, and ConflictError where something else depends on it, or any of that waits or runs.
    """
    with backend.catalog.session() as session:
        row = found(session, model, row_id, lock=True)
        if model is not Dataset and row.state in ACTIVE_STATES:
            raise ConflictError(f"{row_id} has begun again.", "Cancel it first.")
        depending = _depending(model, sa.select(model.id).where(model.id == row_id))
        _refuse(session, row, depending, cascade)
        before = needed(session)
        upload_key = row.upload_key if isinstance(row, Dataset) else None
        active = row.state in ACTIVE_STATES
        for kind, of_it in [*depending, (model, model.id == row_id)]:
            if issubclass(kind, Job):
                session.execute(sa.delete(JobLine).where(JobLine.job_id.in_(sa.select(kind.id).where(of_it))))
        for kind, of_it in depending:
            session.execute(sa.delete(kind).where(of_it).execution_options(synchronize_session=False))
        uploads = session.scalars(sa.select(Upload.id).where(Upload.dataset_id == row_id)).all()
        session.delete(row)
    if active:
        backend.jobs.cancel(backend.jobs.tries("ingest", row_id))
    discard(backend, upload_key)
    for upload in uploads:
        backend.uploads.discard(upload)
    with suppress(BusyError):
        collect_garbage(backend.catalog, backend.objects, last_of=before)


def delete_encoder(backend: Backend, encoder_id: str) -> None:
    """Deletes an encoder that was sent. Raises NotFoundError, and ConflictError where curations use it."""
    with backend.catalog.session() as session:
        row = found(session, StoredEncoder, encoder_id, lock=True)
        asked = Curation.parameters["encoder"].as_string() == f"checkpoint:{row.fingerprint}"
        used = sa.or_(asked, Embedding.encoder_fingerprint == row.fingerprint)
        users = session.scalars(
            sa.select(Curation.id).outerjoin(Embedding, Curation.embedding_id == Embedding.id).where(used)
        ).all()
        if users:
            raise ConflictError(
                f"Encoder {encoder_id} was used by {_counted(Curation, users)}.",
                "Their features can be made again only by it. Delete these first, if you need none of them.",
            )
        before = needed(session)
        session.delete(row)
    with suppress(BusyError):
        collect_garbage(backend.catalog, backend.objects, last_of=before)


def _depending(model: type[Any], ids: "sa.Select[str]") -> list[tuple[type[Any], Any]]:
    """What depends on the rows of these ids, at first hand or not: kinds and conditions, in the order to delete in."""
    listed: list[tuple[type[Any], Any]] = []
    for column in DEPENDS.get(model, ()):
        kind, of_it = column.class_, column.in_(ids)
        listed += [*_depending(kind, sa.select(kind.id).where(of_it)), (kind, of_it)]
    return listed


def _refuse(session: Session, row: Job, depending: list[tuple[type[Any], Any]], cascade: bool) -> None:
    """Raises ConflictError where what depends on the row runs, or was not asked to go. Locks it."""
    told = []
    for kind, of_it in reversed(depending):
        if not issubclass(kind, Job):
            count = session.scalar(sa.select(sa.func.count()).select_from(kind).where(of_it))
            told += [f"{count} {_plural(kind, count or 0)}"] if count else []
            continue
        rows = session.execute(sa.select(kind.id, kind.state).where(of_it).order_by(kind.id).with_for_update()).all()
        busy = [each.id for each in rows if each.state in ACTIVE_STATES]
        if busy:
            raise ConflictError(
                f"Of {row.id} depends what waits or runs: {_counted(kind, busy)}.", "Cancel that, or wait for its end."
            )
        with_result = [each.id for each in rows if each.state not in WITHOUT_RESULT]
        told += [_counted(kind, with_result)] if with_result else []
    if told and not cascade:
        raise ConflictError(
            f"Of {row.id} depend {', '.join(told)}.", "Repeat the request with ?cascade=true to delete all of it."
        )


def _counted(kind: type[Any], ids: Sequence[str]) -> str:
    """Such as "2 manifests (mf_1, mf_2)"."""
    more = ", ..." if len(ids) > NAMED else ""
    return f"{len(ids)} {_plural(kind, len(ids))} ({', '.join(ids[:NAMED])}{more})"


def _plural(kind: type[Any], count: int) -> str:
    return kind.__name__.lower() + ("" if count == 1 else "s")
