"""Trainings and what they have come to so far: curves, and the runs of experiments."""

import sqlalchemy as sa
from sqlalchemy.orm import Session

from service import schemas
from service.views import OF_TRAINING
from tamis.store.schema import Manifest, Metric, Training, TrainingRun


def trainings_of(*, curation: str | None = None, manifest: str | None = None) -> "sa.Select[Training]":
    """All trainings; of a curation those on its manifests, and the experiments on it; of a manifest those on it."""
    query = sa.select(Training).options(*OF_TRAINING)
    if curation is not None:
        manifests = sa.select(Manifest.id).where(Manifest.curation_id == curation)
        query = query.where(sa.or_(Training.curation_id == curation, Training.manifest_id.in_(manifests)))
    if manifest is not None:
        query = query.where(Training.manifest_id == manifest)
    return query


def curves_of(session: Session, training_id: str, points: int) -> dict[str, schemas.Curve]:
    """Every metric by name, thinned to so many points."""
    values: dict[str, tuple[list[int], list[float]]] = {}
    mine = sa.select(Metric.name, Metric.step, Metric.value).where(Metric.training_id == training_id)
    for name, step, value in session.execute(mine.order_by(Metric.name, Metric.step)):
        steps, found = values.setdefault(name, ([], []))
        steps.append(step)
        found.append(value)
    return {name: thinned(steps, found, points) for name, (steps, found) in values.items()}


def thinned(steps: list[int], values: list[float], points: int) -> schemas.Curve:
    """At most so many points: of each of equal stretches the smallest and the largest, so that no peak is lost."""
    count = len(values)
    if count > points:
        kept = []
        stretches = points // 2
        for number in range(stretches):
            stretch = range(number * count // stretches, (number + 1) * count // stretches)
            kept += sorted({min(stretch, key=values.__getitem__), max(stretch, key=values.__getitem__)})
        steps, values = [steps[place] for place in kept], [values[place] for place in kept]
    return schemas.Curve(steps=steps, values=values)


def runs_of(session: Session, training_id: str) -> list[schemas.TrainingRunView]:
    """In the order of seeds."""
    mine = sa.select(TrainingRun).where(TrainingRun.training_id == training_id)
    found = session.scalars(mine.order_by(TrainingRun.seed, TrainingRun.arm))
    return [schemas.TrainingRunView(arm=row.arm, seed=row.seed, **row.outcome) for row in found]
