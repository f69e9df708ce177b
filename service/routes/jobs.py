"""All jobs in one list, one of them, and one stream of their changes for the dashboard."""

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from service import schemas
from service.archives import attempt
from service.backend import Backend
from service.deleting import WITHOUT_RESULT, cancel_row
from service.events import all_job_events
from service.requests import CheckedRoute
from service.routes.common import BackendDep, Cursor, Limit, list_page
from service.views import job_row, job_view, job_views, kind_of, line_view, lines_of
from tamis.errors import ConflictError
from tamis.store.schema import Dataset, JobLine

router = APIRouter(route_class=CheckedRoute, prefix="/jobs", tags=["jobs"])


@router.get("")
def list_jobs(backend: BackendDep) -> schemas.Page[schemas.JobView]:
    """What runs or waits, and the latest that ended, newest first."""
    with backend.catalog.reading() as session:
        return schemas.Page(items=job_views(session), next=None)


@router.get("/events")
def jobs_events(request: Request) -> StreamingResponse:
    return all_job_events(request)


@router.get("/{job_id}")
def get_job(job_id: str, backend: BackendDep) -> schemas.JobView:
    """The job of a data set (its ingest), a curation, a manifest or a training, by the id of that."""
    with backend.catalog.reading() as session:
        return job_view(job_row(session, job_id))


@router.get("/{job_id}/log")
def get_job_log(
    job_id: str, backend: BackendDep, cursor: Cursor = None, limit: Limit = 100
) -> schemas.Page[schemas.JobLine]:
    """What became of the job, the latest first: queued, begun, each stage, what it waited for, how it ended."""
    with backend.catalog.reading() as session:
        return list_page(session, lines_of(job_row(session, job_id)), JobLine, line_view, cursor, limit)


@router.post("/{job_id}/cancel", status_code=202)
def cancel_job(job_id: str, backend: BackendDep) -> schemas.JobView:
    """Cancels what waits or runs. Unlike a DELETE it deletes nothing, should the job have ended meanwhile."""
    with backend.catalog.reading() as session:
        row = job_row(session, job_id)
    cancel_row(backend, row)
    return get_job(job_id, backend)


@router.post("/{job_id}/retry", status_code=202)
def retry_job(job_id: str, backend: BackendDep) -> schemas.JobView:
    """Queues again what failed or was cancelled; it goes on from what it has stored."""
    with backend.catalog.session() as session:
        row = job_row(session, job_id, lock=True)
        if row.state not in WITHOUT_RESULT:
            raise ConflictError(f"{job_id} is {row.state}.", "Only what failed or was cancelled can be tried again.")
        tried = ""
        if isinstance(row, Dataset):
            _must_be_there(backend, row)
            tried = attempt(row.upload_key)
        row.requeue("waiting for a worker")
        backend.jobs.enqueue(session, kind_of(type(row)), job_id, tried, str(row.version))
        session.flush()
        return job_view(row)


def _must_be_there(backend: Backend, row: Dataset) -> None:
    if row.source_uri is None and not (row.upload_key and backend.objects.exists(row.upload_key)):
        raise ConflictError(f"The archive of {row.id} is not there any more.", "Send it again.")
