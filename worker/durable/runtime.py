"""What every job needs: the settings, the catalogue, a place for its steps, and a way to report to its row."""

import functools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import sqlalchemy as sa
from dbos import DBOS, SetEnqueueOptions, SetWorkflowID, WorkflowHandle
from dbos import error as dbos_error
from sqlalchemy.orm import Session

from tamis.errors import CancelledError, TamisError
from tamis.ingest.shards import ShardRef
from tamis.logs import about
from tamis.progress import Pace, Progress
from tamis.settings import Settings
from tamis.store.catalog import Catalog, advance, open_catalog
from tamis.store.jobs import Jobs, attempt_of, open_jobs, priority_of, subject_of, workflow_id
from tamis.store.objects import Objects, open_objects
from tamis.store.outages import first_line, memory_is_short, outage_of
from tamis.store.schema import Dataset, Job, Shard
from worker.durable.outages import wait_out
from worker.steps.ingest import Stored
from worker.steps.place import Place, Stage

log = logging.getLogger("tamis.worker")

MEMORY_HINT = "Give it more, or lower TAMIS_MEMORY_BUDGET, then try again: it goes on from what is stored."
REPORT_SECONDS = 0.25
ATTEMPTS = 3

P = ParamSpec("P")
R = TypeVar("R")
JobRow = TypeVar("JobRow", bound=Job)


def step(function: Callable[P, R]) -> Callable[P, R]:
    """A durable step, whose first argument is the id of its job's row: its result is kept, so a resumed job passes over
    it. It waits until an outage is over. What may be another fault of the moment, such as of memory, is tried again;
    what the user or the data caused is not."""

    @functools.wraps(function)
    def patient(*args: P.args, **kwargs: P.kwargs) -> R:
        return wait_out(runtime().catalog, str(args[0]), lambda: function(*args, **kwargs))

    decorated: Callable[[Callable[P, R]], Callable[P, R]] = DBOS.step(
        retries_allowed=True,
        max_attempts=ATTEMPTS,
        should_retry=lambda problem: not isinstance(problem, TamisError),
    )
    return decorated(patient)


def workflow(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A durable job, of which this process knows that it runs it.

    An outage that the job engine met, such as when it kept a step's result, ends this run and not the job: the worker
    sees that it holds what it does not run, and begins it again.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            workflow_id, running = str(DBOS.workflow_id), runtime().running
            running.append(workflow_id)
            try:
                with about(job=subject_of(workflow_id)):
                    return function(*args, **kwargs)
            except Exception as problem:
                cause = outage_of(problem)
                if cause is None:
                    raise
                log.warning("%s was cut off: %s", workflow_id, cause)
                raise dbos_error.DBOSWorkflowConflictIDError(workflow_id) from problem
            finally:
                running.remove(workflow_id)

        decorated: Callable[P, R] = DBOS.workflow(name=name)(run)
        return decorated

    return decorate


@dataclass(frozen=True)
class Runtime:
    """One worker process's handles. running: the ids of the workflows that it runs now."""

    settings: Settings
    catalog: Catalog
    objects: Objects
    place: Place
    jobs: Jobs
    running: list[str] = field(default_factory=list)


_runtime: Runtime | None = None


def open_runtime(settings: Settings) -> Runtime:
    """Connects this process; the workflows find the result through `runtime()`."""
    global _runtime
    catalog = open_catalog(settings)
    objects = open_objects(settings)
    place = Place(objects, settings.data / "scratch", settings.device, settings.allow_torchscript)
    _runtime = Runtime(settings, catalog, objects, place, open_jobs(catalog.engine))
    return _runtime


def runtime() -> Runtime:
    if _runtime is None:
        raise RuntimeError("open_runtime() must run before any job does")
    return _runtime


@contextmanager
def reported(model: type[Job], row_id: str) -> Iterator[None]:
    """Keeps the row's state true while a workflow's body runs: running, then failed with the cause.

    Success is written by the job's last step together with its result.
    """
    catalog = runtime().catalog
    try:
        wait_out(catalog, row_id, lambda: advance(catalog, model, row_id, state="running"))
        yield
    except (CancelledError, dbos_error.DBOSWorkflowCancelledError, dbos_error.DBOSAwaitedWorkflowCancelledError):
        log.info("%s was cancelled", row_id)
        raise
    except TamisError as problem:
        _fail(catalog, model, row_id, str(problem))
        raise
    except Exception as problem:
        if outage_of(problem) is not None:
            raise
        log.exception("%s failed", row_id)
        _fail(catalog, model, row_id, _cause(problem))
        raise


def _cause(problem: Exception) -> str:
    """For people; of a step that was tried several times, what the last try met."""
    last = problem.errors[-1] if isinstance(problem, dbos_error.DBOSMaxStepRetriesExceeded) else problem
    if memory_is_short(last):
        return f"The worker has too little memory ({first_line(last)}). {MEMORY_HINT}"
    return f"Internal error: {last!r}. The worker's log has the traceback."


def _fail(catalog: Catalog, model: type[Job], row_id: str, cause: str) -> None:
    try:
        check_wanted(str(DBOS.workflow_id))
        wait_out(catalog, row_id, lambda: advance(catalog, model, row_id, state="failed", error=cause))
    except CancelledError:
        log.info("%s failed after it was cancelled: %s", row_id, cause)


def reporter(
    model: type[Job], row_id: str, stage: str, message: str = "", *, done: int = 0, total: int = 0
) -> Progress:
    """A progress callback that writes to the row at most four times a second, with the pace behind the message.

    done, total: where this step begins, in the units that the callback counts.
    It raises CancelledError once the row is cancelled, which is how a long step learns of it.
    """
    catalog, words = runtime().catalog, Pace().words
    advance(catalog, model, row_id, stage=stage, done=done, total=total, message=message)

    def tell(done: int, total: int) -> None:
        told = ", ".join(filter(None, (message, words(done, total))))
        advance(catalog, model, row_id, done=done, total=total, message=told)

    return throttled(tell)


def stages(model: type[Job], row_id: str) -> Stage:
    """Stages of a job, told to its row."""
    return lambda stage, message: reporter(model, row_id, stage, message)


def begin_part(
    queue: str, kind: str, row_id: str, part: str, function: Callable[..., Any], *arguments: Any
) -> WorkflowHandle[Any]:
    """Puts a part of the job that runs here on a queue, where it has the job's priority."""
    with runtime().catalog.reading() as session:
        priority = priority_of(session, row_id)
    name = workflow_id(kind, row_id, part, attempt_of(str(DBOS.workflow_id)))
    with SetWorkflowID(name), SetEnqueueOptions(priority=priority):
        return DBOS.enqueue_workflow(queue, function, *arguments)


def check_wanted(workflow_id: str) -> None:
    """Raises CancelledError once this try at a job was cancelled. Its row alone does not tell, for the job may have
    been queued again since."""
    if runtime().jobs.is_cancelled(workflow_id):
        raise CancelledError(f"{workflow_id} was cancelled.")


def locked(session: Session, model: type[JobRow], row_id: str) -> JobRow:
    """The row of this job, for its result. Raises CancelledError where nobody waits for that any more."""
    row = session.get(model, row_id, with_for_update=True)
    if row is None or row.state == "cancelled":
        raise CancelledError(f"{row_id} was cancelled.")
    check_wanted(str(DBOS.workflow_id))
    return row


def throttled(report: Progress) -> Progress:
    """Passes on at most four reports a second, and the last. Raises CancelledError as `check_wanted` does."""
    # Noted here, for it may be called from another thread.
    last, this = time.monotonic(), str(DBOS.workflow_id)

    def passed(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= REPORT_SECONDS or 0 < total <= done:
            last = now
            check_wanted(this)
            report(done, total)

    return passed


def stored_dataset(dataset_id: str) -> Stored:
    """What `ingest` recorded of a data set whose images are stored."""
    with runtime().catalog.session() as session:
        row = session.get_one(Dataset, dataset_id)
        assert row.fingerprint is not None
        assert row.index_key is not None
        assert row.quarantine_key is not None
        found = session.scalars(sa.select(Shard).where(Shard.dataset_id == dataset_id).order_by(Shard.ordinal))
        shards = tuple(map(shard_ref, found))
        sizes = row.samples, row.quarantined, row.bytes
        return Stored(row.fingerprint, *sizes, row.index_key, row.quarantine_key, shards)


def shard_ref(row: Shard) -> ShardRef:
    return ShardRef(row.key, row.thumbnails_key, row.first, row.count)
