"""Human decisions on samples of a curation: append-only, undone by a further row, applied when a manifest is made."""

from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter
from sqlalchemy.orm import Session

from service import schemas
from service.routes.common import BackendDep
from service.views import found
from tamis.errors import ConflictError, InputError
from tamis.store.catalog import Curation, Decision

router = APIRouter(tags=["decisions"])


@router.post("/curations/{curation_id}/decisions", status_code=201)
def decide(curation_id: str, body: schemas.NewDecision, backend: BackendDep) -> schemas.DecisionView:
    with backend.catalog.session() as session:
        curation = found(session, Curation, curation_id)
        if body.sample >= curation.dataset.samples:
            raise InputError(
                f"There is no sample {body.sample}.", f"The data set has {curation.dataset.samples}, counted from 0."
            )
        row = _append(session, curation_id, body.sample, body.verdict, body.note)
        return _view(row, undone=False)


@router.get("/curations/{curation_id}/decisions")
def list_decisions(curation_id: str, backend: BackendDep) -> dict[str, Any]:
    with backend.catalog.session() as session:
        found(session, Curation, curation_id)
        query = sa.select(Decision).where(Decision.curation_id == curation_id).order_by(Decision.sequence)
        rows = session.scalars(query).all()
        undone = {row.undoes for row in rows if row.undoes is not None}
        return {"items": [_view(row, row.id in undone) for row in rows if row.undoes is None]}


@router.post("/decisions/{decision_id}/undo", status_code=201)
def undo(decision_id: int, backend: BackendDep) -> schemas.DecisionView:
    with backend.catalog.session() as session:
        row = found(session, Decision, decision_id)
        known = session.scalar(sa.select(Decision).where(Decision.undoes == decision_id))
        if known is not None or row.undoes is not None:
            raise ConflictError(f"Decision {decision_id} is undone already.", "Decide again instead.")
        _append(session, row.curation_id, row.sample, row.verdict, "", undoes=row.id)
        return _view(row, undone=True)


def _append(
    session: Session, curation_id: str, sample: int, verdict: str, note: str, undoes: int | None = None
) -> Decision:
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


def _view(row: Decision, undone: bool) -> schemas.DecisionView:
    return schemas.DecisionView(
        id=row.id, sample=row.sample, verdict=row.verdict, note=row.note, undone=undone, created_at=row.created_at
    )
