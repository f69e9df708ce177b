"""Human decisions on samples of a curation: append-only, undone by a further row, applied when a manifest is made."""

import sqlalchemy as sa
from fastapi import APIRouter
from sqlalchemy.orm import Session

from service import schemas
from service.cursors import read_cursor, write_cursor
from service.requests import CheckedRoute
from service.routes.common import BackendDep, Cursor, Limit, Number, NumberFilter
from service.views import decision_view, decisions_query, found
from tamis.errors import ConflictError, InputError
from tamis.store.schema import Curation, Decision

router = APIRouter(route_class=CheckedRoute, tags=["decisions"])


@router.post("/curations/{curation_id}/decisions", status_code=201)
def decide(curation_id: str, body: schemas.NewDecision, backend: BackendDep) -> schemas.DecisionView:
    with backend.catalog.session() as session:
        curation = found(session, Curation, curation_id, lock=True)
        if body.sample >= curation.dataset.samples:
            raise InputError(
                f"There is no sample {body.sample}.", f"The data set has {curation.dataset.samples}, counted from 0."
            )
        row = _append(session, curation_id, body.sample, body.verdict, body.note)
        return decision_view(row, undone=False)


@router.get("/curations/{curation_id}/decisions")
def list_decisions(
    curation_id: str, backend: BackendDep, sample: NumberFilter = None, cursor: Cursor = None, limit: Limit = 100
) -> schemas.Page[schemas.DecisionView]:
    """All decisions, or those on one sample, in their order; those undone included."""
    after = read_cursor(cursor)
    query = decisions_query(curation_id).where(Decision.sequence > after).order_by(Decision.sequence).limit(limit + 1)
    if sample is not None:
        query = query.where(Decision.sample == sample)
    with backend.catalog.session() as session:
        found(session, Curation, curation_id)
        rows = session.execute(query).all()
        return schemas.Page(
            items=[decision_view(row, undone) for row, undone in rows[:limit]],
            next=write_cursor(rows[limit - 1][0].sequence) if len(rows) > limit else None,
        )


@router.post("/decisions/{decision_id}/undo", status_code=201)
def undo(decision_id: Number, backend: BackendDep) -> schemas.DecisionView:
    with backend.catalog.session() as session:
        row = found(session, Decision, decision_id)
        found(session, Curation, row.curation_id, lock=True)
        known = session.scalar(sa.select(Decision.id).where(Decision.undoes == decision_id))
        if known is not None or row.undoes is not None:
            raise ConflictError(f"Decision {decision_id} is undone already, or undoes one itself.", "Decide again.")
        _append(session, row.curation_id, row.sample, row.verdict, "", undoes=row.id)
        return decision_view(row, undone=True)


def _append(
    session: Session, curation_id: str, sample: int, verdict: str, note: str, undoes: int | None = None
) -> Decision:
    """The next row of a curation, which the caller has locked: its rows are numbered without a gap."""
    latest = session.scalar(sa.select(sa.func.max(Decision.sequence)).where(Decision.curation_id == curation_id))
    row = Decision(
        curation_id=curation_id,
        sequence=(latest or 0) + 1,
        sample=sample,
        verdict=verdict,
        note=note,
        undoes=undoes,
    )
    session.add(row)
    session.flush()
    return row
