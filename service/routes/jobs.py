"""All jobs in one list, and one stream of their changes for the dashboard."""

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from service import schemas
from service.events import all_job_events
from service.requests import CheckedRoute
from service.routes.common import BackendDep
from service.views import job_views

router = APIRouter(route_class=CheckedRoute, prefix="/jobs", tags=["jobs"])


@router.get("")
def list_jobs(backend: BackendDep) -> schemas.Page[schemas.JobView]:
    """What runs or waits, and the latest that ended, newest first."""
    with backend.catalog.session() as session:
        return schemas.Page(items=job_views(session), next=None)


@router.get("/events")
def jobs_events(request: Request, backend: BackendDep) -> StreamingResponse:
    return all_job_events(request, backend)
