"""The job queue as its clients see it: enqueue in the same transaction as the row that asks for the work, and cancel.

The workflows themselves live in `worker/`; this module names them, so that the service need not import the worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from dbos import DBOS, DBOSClient
from sqlalchemy.orm import Session

from tamis.store.schema import model_of

APPLICATION = "tamis"
# Bumped when a workflow changes its steps: jobs of one version are never continued by the code of another.
WORKFLOW_VERSION = "3"
# What a worker can be told to take. One that takes `cpu` also takes `scan`, the parts of scans on which curations wait:
# if these waited on the queue that holds them, they could fill its places, and no part would ever begin.
QUEUES = ("cpu", "gpu", "train")
SCAN_QUEUE = "scan"
UNFINISHED = ["PENDING", "ENQUEUED", "DELAYED"]

# As the job engine has them: the least goes first, and of equal ones the earliest.
PRIORITIES = {"high": 1, "normal": 2, "low": 3}

# What the service may ask for, and the queue on which it starts.
QUEUE_OF = {"ingest": "cpu", "curation": "cpu", "manifest": "cpu", "layout": "cpu", "training": "train"}


@dataclass(frozen=True)
class Jobs:
    """A handle on the queue, which lives in the catalogue's own database."""

    client: DBOSClient

    def enqueue(self, session: Session, kind: str, subject: str, *attempt: str) -> None:
        """Enqueues the job of `kind` for the row `subject` as part of the session's transaction.

        Row and job appear together or not at all, so no moment of a crash can leave one without the other. It has the
        row's priority.
        """
        self.client.enqueue_in_transaction(
            session,
            {
                "workflow_name": kind,
                "queue_name": QUEUE_OF[kind],
                "workflow_id": workflow_id(kind, subject, *attempt),
                "app_version": WORKFLOW_VERSION,
                "application_name": APPLICATION,
                "priority": priority_of(session, subject),
            },
            subject,
        )

    def tries(self, kind: str, subject: str, *attempt: str) -> list[str]:
        """The ids of all unfinished attempts at the job."""
        named = self.client.list_workflows(
            status=UNFINISHED,
            workflow_id_prefix=workflow_id(kind, subject, *attempt),
            load_input=False,
            load_output=False,
        )
        return [workflow.workflow_id for workflow in named]

    def cancel(self, tries: Sequence[str]) -> None:
        """Stops attempts, and what they started, at their next step or progress report."""
        for workflow in tries:
            self.client.cancel_workflow(workflow, cancel_children=True)

    def is_cancelled(self, workflow: str) -> bool:
        return bool(
            self.client.list_workflows(workflow_ids=[workflow], status="CANCELLED", load_input=False, load_output=False)
        )

    def interrupted(self, executor_id: str) -> Sequence[tuple[str, str]]:
        """Workflow ids and queue names of what the executor held when it was last seen."""
        held = self.client.list_workflows(
            status="PENDING", executor_id=executor_id, load_input=False, load_output=False
        )
        return [(workflow.workflow_id, workflow.queue_name or "cpu") for workflow in held]

    def holders(self) -> set[str]:
        """The ids of all executors that hold a job."""
        held = self.client.list_workflows(status="PENDING", load_input=False, load_output=False)
        return {workflow.executor_id for workflow in held if workflow.executor_id}

    def unfinished(self) -> dict[str, list[str]]:
        """By the row for which they wait or run, or will be adopted, the ids of workflows."""
        by_row: dict[str, list[str]] = {}
        for workflow in self.client.list_workflows(status=UNFINISHED, load_input=False, load_output=False):
            by_row.setdefault(subject_of(workflow.workflow_id), []).append(workflow.workflow_id)
        return by_row

    def resume(self, workflow: str, queue: str) -> None:
        """Puts an interrupted workflow back on its queue; finished steps are not run again."""
        self.client.resume_workflow(workflow, queue_name=queue)

    def close(self) -> None:
        self.client.destroy()


def open_jobs(engine: sa.Engine) -> Jobs:
    """Creates the queue's tables when they are missing and connects to them."""
    url = engine.url.render_as_string(hide_password=False)
    DBOS.migrate(url)
    return Jobs(DBOSClient(system_database_url=url, application_name=APPLICATION))


def priority_of(session: Session, row_id: str) -> int:
    """Of a job's row, as the job engine has it."""
    model = model_of(row_id)
    assert model is not None, "only jobs are queued"
    return PRIORITIES[session.scalars(sa.select(model.priority).where(model.id == row_id)).one()]


def workflow_id(kind: str, subject: str, *attempt: str) -> str:
    """attempt: what tells one try, or one part, from others for the same row; none for the first."""
    return "-".join(part for part in (kind, subject, *attempt) if part)


def attempt_of(workflow: str) -> str:
    """What `workflow_id` was given to tell this try from others; what the job starts is told apart by it too."""
    return "-".join(workflow.split("-")[2:])


def subject_of(workflow: str) -> str:
    """The row that `workflow_id` was made for; empty for other names."""
    return workflow.split("-")[1] if "-" in workflow else ""
