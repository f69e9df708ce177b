"""Human decisions on samples of a curation: append-only, undone by further rows, applied when a manifest is made."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from fastapi import APIRouter, Query, Request
from sqlalchemy.orm import Session

from service import bodies, filters, schemas
from service.auth import this_caller
from service.pairs import pair_filter
from service.ranking import matching_samples
from service.requests import CheckedRoute
from service.results import Result
from service.routes.common import BackendDep, Cursor, IdempotencyKey, Limit, Number, NumberFilter, create_once
from service.views import decision_view, decisions_page, decisions_query, found
from tamis.errors import ConflictError, InputError
from tamis.store.schema import Curation, Decision, new_id, now

router = APIRouter(route_class=CheckedRoute, tags=["decisions"])

# Rows that are written in one statement.
AT_ONCE = 10_000


@router.post("/curations/{curation_id}/decisions", status_code=201)
def decide(
    curation_id: str, body: bodies.NewDecision, request: Request, backend: BackendDep, key: IdempotencyKey = None
) -> schemas.DecisionView:
    by = this_caller(request).name

    def make(session: Session) -> Decision:
        curation = found(session, Curation, curation_id, lock=True)
        if body.sample >= curation.dataset.samples:
            raise InputError(
                f"There is no sample {body.sample}.", f"The data set has {curation.dataset.samples}, counted from 0."
            )
        sequence = _append(session, curation_id, [{**body.model_dump(), "by": by}])
        mine = Decision.curation_id == curation_id, Decision.sequence == sequence
        return session.scalars(sa.select(Decision).where(*mine)).one()

    def view(row: Decision) -> schemas.DecisionView:
        return decision_view(row, undone=False)

    return create_once(backend, Decision, f"curations/{curation_id}/decisions", key, body, make, view)


@router.post("/curations/{curation_id}/decisions/bulk", status_code=201)
def decide_in_bulk(
    curation_id: str, body: filters.BulkDecision, request: Request, backend: BackendDep
) -> filters.BulkDone:
    """One verdict on all samples that a filter means and on which it does not stand already.

    Of a dry run nothing remains but the counts. A batch is undone as one.
    """
    by, batch = this_caller(request).name, None if body.dry_run else new_id("ba")
    with backend.catalog.session() as session:
        # Locked before the decisions are read: what another person decides meanwhile comes after.
        found(session, Curation, curation_id, lock=True)
        result = backend.results.open(curation_id)
        matched = _matched(result, body, backend)
        stands = result.verdicts.mask(body.verdict, result.samples)
        changed = np.flatnonzero(matched & ~stands)
        if batch:
            row = {"verdict": body.verdict, "note": body.note, "by": by, "batch": batch}
            _append(session, curation_id, [{**row, "sample": sample} for sample in changed.tolist()])
    return filters.BulkDone(matched=int(matched.sum()), changed=len(changed), batch=batch)


def _matched(result: Result, body: filters.BulkDecision, backend: BackendDep) -> npt.NDArray[np.bool_]:
    if body.samples is not None:
        return matching_samples(result, body.samples)
    assert body.pairs is not None
    columns = result.columns
    places = backend.selections.places(result, pair_filter(body.pairs, result))
    a, b = columns.a[places], columns.b[places]
    touched = np.zeros(result.samples, bool)
    if body.of_pairs == "both":
        touched[a] = touched[b] = True
    else:
        touched[np.where(columns.sample_difficulty[b] > columns.sample_difficulty[a], b, a)] = True
    return touched


@router.get("/curations/{curation_id}/decisions")
def list_decisions(
    curation_id: str,
    backend: BackendDep,
    sample: NumberFilter = None,
    newest: Annotated[bool, Query(description="The newest first.")] = False,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> schemas.Page[schemas.DecisionView]:
    """All decisions, or those on one sample, in their order or from the newest on; those undone included."""
    with backend.catalog.reading() as session:
        found(session, Curation, curation_id)
        return decisions_page(session, curation_id, newest=newest, limit=limit, sample=sample, cursor=cursor)


@router.post("/decisions/{decision_id}/undo", status_code=201)
def undo(decision_id: Number, request: Request, backend: BackendDep) -> schemas.DecisionView:
    by = this_caller(request).name
    with backend.catalog.session() as session:
        row = found(session, Decision, decision_id)
        found(session, Curation, row.curation_id, lock=True)
        known = session.scalar(sa.select(Decision.id).where(Decision.undoes == decision_id))
        if known is not None or row.undoes is not None:
            raise ConflictError(f"Decision {decision_id} is undone already, or undoes one itself.", "Decide again.")
        _append(session, row.curation_id, [_undoing(row, by)])
        return decision_view(row, undone=True)


@router.post("/curations/{curation_id}/decisions/bulk/{batch}/undo", status_code=201)
def undo_batch(curation_id: str, batch: str, request: Request, backend: BackendDep) -> schemas.Undone:
    """Undoes what is not undone yet of all that one request decided."""
    by = this_caller(request).name
    with backend.catalog.session() as session:
        found(session, Curation, curation_id, lock=True)
        rows = session.execute(decisions_query(curation_id).where(Decision.batch == batch)).all()
        if not rows:
            raise ConflictError(f"Curation {curation_id} has no batch {batch}.", "POST .../decisions/bulk names it.")
        standing = [row for row, undone in rows if not undone]
        if not standing:
            raise ConflictError(f"Batch {batch} is undone already.", "Decide again.")
        _append(session, curation_id, [_undoing(row, by) for row in standing])
        return schemas.Undone(undone=len(standing))


def _undoing(row: Decision, by: str) -> dict[str, Any]:
    return {"sample": row.sample, "verdict": row.verdict, "note": "", "by": by, "undoes": row.id}


def _append(session: Session, curation_id: str, rows: Sequence[dict[str, Any]]) -> int:
    """Adds rows to a curation's, which the caller has locked: numbered without a gap. Returns the last number."""
    mine, moment = Decision.curation_id == curation_id, now()
    last = session.scalar(sa.select(sa.func.max(Decision.sequence)).where(mine)) or 0
    for start in range(0, len(rows), AT_ONCE):
        numbered = [
            {**row, "curation_id": curation_id, "sequence": last + 1 + place, "created_at": moment}
            for place, row in enumerate(rows[start : start + AT_ONCE])
        ]
        session.execute(sa.insert(Decision), numbered)
        last += len(numbered)
    return last
