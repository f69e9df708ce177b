"""Where unfinished trainings and scans are kept among the objects, and when nobody goes on from there any more."""

from datetime import timedelta
from pathlib import PurePosixPath

import sqlalchemy as sa

from tamis.store.catalog import Catalog
from tamis.store.jobs import Jobs, subject_of
from tamis.store.objects import Objects
from tamis.store.schema import TERMINAL_STATES, Curation, Training, now

FOLDER = "checkpoints"
# A worker that has not noticed the end yet may save once more, and one that takes over may put back what just ended.
ENDED_AGE = timedelta(hours=1)


def checkpoint_key(workflow: str, suffix: str) -> str:
    """Of what the workflow of that id, or a step named like one, keeps until its job has ended."""
    return f"{FOLDER}/{workflow}.{suffix}"


def sweep_checkpoints(catalog: Catalog, objects: Objects, jobs: Jobs, age: timedelta = ENDED_AGE) -> int:
    """Removes what cancelled and failed jobs left, or killed workers of any, so long after the end; returns how many.

    That is also what a worker killed in the middle of a save had written.

    A job that has ended is begun again only by a workflow of its own or of its parts that has not. These are asked for
    last: what ended before has no new ones. Objects of which this catalogue knows no job stay.
    """
    keys, unwritten = objects.list(f"{FOLDER}/"), objects.unwritten(FOLDER)
    over = _ended(catalog, age) - jobs.unfinished().keys()
    left = [key for key in keys if subject_of(PurePosixPath(key).stem) in over]
    cut = [path for path in unwritten if subject_of(path.stem) in over]
    for key in left:
        objects.delete(key)
    for path in cut:
        path.unlink(missing_ok=True)
    return len(left) + len(cut)


def _ended(catalog: Catalog, age: timedelta) -> set[str]:
    ended: set[str] = set()
    with catalog.session() as session:
        for model in (Curation, Training):
            query = sa.select(model.id).where(model.state.in_(TERMINAL_STATES), model.finished_at <= now() - age)
            ended.update(session.scalars(query))
    return ended
