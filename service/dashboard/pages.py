"""The pages and their addresses."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse

from service.auth import this_caller
from service.backend import Backend
from service.dashboard import trainings
from service.dashboard.render import page
from service.dashboard.session import require_page, session_pages
from service.dashboard.views import PageViews
from service.routes.common import Number
from tamis.store.schema import now

Cursor = Annotated[str | None, Query(max_length=500)]


def pages(backend: Backend) -> APIRouter:
    router = APIRouter()
    router.include_router(session_pages())
    router.include_router(_guarded_pages(backend), dependencies=[Depends(require_page)])
    return router


def _guarded_pages(backend: Backend) -> APIRouter:
    views = PageViews(backend)
    router = APIRouter(default_response_class=HTMLResponse)

    @router.get("/")
    def datasets(request: Request, cursor: Cursor = None) -> HTMLResponse:
        since = _now()
        return page(request, "datasets.html", **views.datasets(cursor), since=since)

    @router.get("/datasets/{dataset_id}")
    def dataset(request: Request, dataset_id: str, quarantine: Cursor = None) -> HTMLResponse:
        since = _now()
        found = views.dataset(dataset_id, quarantine)
        return page(request, "dataset.html", **found, since=since, quarantine_cursor=quarantine)

    @router.get("/curations/{curation_id}")
    def curation(request: Request, curation_id: str, sort: str = "-difficulty", cursor: Cursor = None) -> HTMLResponse:
        since = _now()
        found = views.curation(curation_id, sort, cursor)
        return page(request, "curation.html", **found, since=since, sort=sort)

    @router.get("/curations/{curation_id}/explore")
    def explore(request: Request, curation_id: str) -> HTMLResponse:
        return page(request, "explore.html", curation=views.curated(curation_id)[0])

    @router.get("/curations/{curation_id}/clusters")
    def clusters(request: Request, curation_id: str) -> HTMLResponse:
        return page(request, "clusters.html", **views.clusters(curation_id))

    @router.get("/curations/{curation_id}/bound")
    def bound(request: Request, curation_id: str) -> HTMLResponse:
        return page(request, "bound.html", **views.bound(curation_id))

    @router.get("/curations/{curation_id}/samples/{number}")
    def sample(request: Request, curation_id: str, number: Number) -> HTMLResponse:
        return page(request, "sample.html", **views.sample(curation_id, number))

    @router.get("/curations/{curation_id}/pairs/{one}-{other}")
    def pair(request: Request, curation_id: str, one: Number, other: Number) -> HTMLResponse:
        return page(request, "pair.html", **views.pair(curation_id, one, other))

    @router.get("/curations/{curation_id}/decisions")
    def decisions(request: Request, curation_id: str, cursor: Cursor = None) -> HTMLResponse:
        return page(request, "decisions.html", **views.decisions(curation_id, cursor), cursor=cursor)

    @router.get("/manifests/{manifest_id}")
    def manifest(request: Request, manifest_id: str) -> HTMLResponse:
        since = _now()
        return page(request, "manifest.html", **trainings.of_manifest(backend, manifest_id), since=since)

    @router.get("/trainings")
    def all_trainings(request: Request, cursor: Cursor = None) -> HTMLResponse:
        return page(request, "trainings.html", **trainings.listed(backend, cursor))

    @router.get("/trainings/{training_id}")
    def training(request: Request, training_id: str) -> HTMLResponse:
        since = _now()
        return page(request, "training.html", **trainings.one(backend, training_id), since=since)

    @router.get("/encoders")
    def encoders(request: Request, cursor: Cursor = None) -> HTMLResponse:
        return page(request, "encoders.html", **views.encoders(cursor))

    @router.get("/jobs")
    def jobs(request: Request) -> HTMLResponse:
        since = _now()
        return page(request, "jobs.html", jobs=views.jobs(), since=since)

    @router.get("/jobs/{job_id}")
    def job(request: Request, job_id: str, cursor: Cursor = None) -> HTMLResponse:
        since = _now()
        return page(request, "job.html", **views.job(job_id, cursor), since=since)

    @router.get("/settings")
    def settings(request: Request, cursor: Cursor = None) -> HTMLResponse:
        caller = this_caller(request)
        shown = views.administration(cursor) if caller.scope == "admin" else {"keys": None}
        return page(request, "settings.html", caller=caller, **shown)

    return router


def _now() -> str:
    """Taken before a page's values are read: what ends later is news to the page."""
    return now().isoformat()
