"""What the pages of trainings, experiments and manifests show."""

from typing import Any, get_args

from service import bodies, schemas
from service.backend import Backend
from service.dashboard.charts import ROW_WIDTH, lines, rows
from service.trainings import curves_of, runs_of, trainings_of
from service.views import curation_view, found, manifest_view, training_view
from tamis.store.catalog import page
from tamis.store.schema import Manifest, Training

TRAININGS = 50
# What an experiment can be asked for; baselines and controls come with them.
ARMS = [arm for arm in get_args(bodies.Arm) if arm not in ("baseline", "random") and "-" not in arm]
METHODS = {method: method for method in get_args(bodies.Method)}
POINTS = 400
# Beside the name of what a probe measures, as a run of an experiment has it.
MEASURES = {"linear": "Linear probe", "nearest": "20 nearest neighbours"}

Values = dict[str, Any]


def listed(backend: Backend, cursor: str | None) -> Values:
    """A page of trainings and experiments, the newest first."""
    with backend.catalog.reading() as session:
        listed, following = page(session, trainings_of(), Training, cursor, TRAININGS)
        return {"trainings": [_shown(row) for row in listed], "next": following}


def of_curation(backend: Backend, curation_id: str) -> list[Values]:
    """The latest trainings on a curation's manifests, and experiments on it."""
    with backend.catalog.reading() as session:
        listed, _ = page(session, trainings_of(curation=curation_id), Training, None, TRAININGS)
        return [_shown(row) for row in listed]


def one(backend: Backend, training_id: str) -> Values:
    with backend.catalog.reading() as session:
        row = found(session, Training, training_id)
        training = _shown(row)
        curves = curves_of(session, training_id, POINTS)
        runs = [run.model_dump() for run in runs_of(session, training_id)]
    result = training["result"] or {}
    compared = result.get("compared", {})
    return {
        "training": training,
        "losses": lines(loss) if (loss := _losses(curves)) else None,
        "arms": _by_arm(runs, result.get("arms", [])),
        "judged": [arm for arm in training["parameters"].get("arms", []) if arm != "baseline"],
        "compared": {MEASURES[measure]: rows(each) for measure, each in compared.items()},
        "measures": MEASURES,
        "row_width": ROW_WIDTH,
    }


def of_manifest(backend: Backend, manifest_id: str) -> Values:
    """A manifest, its curation, and the trainings on it."""
    with backend.catalog.reading() as session:
        manifest = found(session, Manifest, manifest_id)
        trained, _ = page(session, trainings_of(manifest=manifest_id), Training, None, TRAININGS)
        return {
            "manifest": manifest_view(manifest).model_dump(mode="json"),
            "curation": curation_view(manifest.curation).model_dump(mode="json"),
            "trainings": [_shown(row) for row in trained],
            "methods": METHODS,
        }


def _shown(row: Training) -> Values:
    """A training as the API shows it, and what it is in a few words."""
    strategy = row.manifest.parameters["strategy"] if row.manifest else ""
    asked = row.parameters
    if not strategy:
        what = f"experiment: {', '.join(asked['arms'])}; {asked['seeds']} seeds"
    else:
        what = "baseline" if asked.get("baseline") else strategy
    return {**training_view(row).model_dump(mode="json"), "what": what}


def _losses(curves: dict[str, schemas.Curve]) -> dict[str, schemas.Curve]:
    """Of a training, or of every run of an experiment by ARM/SEED."""
    return {name.removesuffix("loss").rstrip("/"): curve for name, curve in curves.items() if name.endswith("loss")}


def _by_arm(runs: list[Values], order: list[str]) -> dict[str, list[Values]]:
    """The runs that have ended, by arm, in the order of the plan where it is known."""
    by_arm: dict[str, list[Values]] = {arm: [] for arm in order}
    for run in runs:
        by_arm.setdefault(run["arm"], []).append(run)
    return by_arm
