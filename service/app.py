"""The ASGI application: API, dashboard, error documents."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from service import problems
from service.audit import Audited
from service.auth import API, Guarded, LoopbackHosts
from service.backend import open_backend
from service.dashboard.pages import pages
from service.dashboard.security import secure
from service.dashboard.static_files import static_files
from service.description import describe
from service.events import LatestJobs
from service.janitor import sweep_regularly
from service.observed import Observed, request_seconds
from service.routes import (
    administration,
    curations,
    datasets,
    decisions,
    embeddings,
    encoders,
    explore,
    health,
    jobs,
    managing,
    manifests,
    trainings,
    uploads,
)
from tamis.settings import Settings
from tamis.version import __version__


def create_app(settings: Settings, *, require_key: bool) -> FastAPI:
    """The service over one catalogue. With `require_key` every call and page needs an API key.

    Without it the app answers only to loopback host names, so that no other site can reach it through a browser by
    pointing a name of its own at this machine.
    """
    backend = open_backend(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.stopping = asyncio.Event()
        sweeping = asyncio.create_task(sweep_regularly(backend))
        yield
        sweeping.cancel()
        backend.close()

    app = FastAPI(
        title="Tamis",
        version=__version__,
        description="Finds the difficult examples of an image data set and hands back a curated manifest.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.backend, app.state.require_key = backend, require_key
    app.state.latest_jobs = LatestJobs(backend)
    app.state.requests = request_seconds()
    problems.install(app)
    app.add_middleware(Audited)
    app.add_middleware(Guarded, requests_per_minute=settings.requests_per_minute)
    if not require_key:
        app.add_middleware(LoopbackHosts)
    secure(app)
    app.add_middleware(Observed, log_requests=settings.log_requests)
    # Routes are tried in this order: those asked for the most come first.
    for module in (
        explore,
        datasets,
        uploads,
        embeddings,
        encoders,
        curations,
        manifests,
        trainings,
        decisions,
        managing,
        jobs,
        administration,
    ):
        app.include_router(module.router, prefix=API)
    app.include_router(health.router)
    app.include_router(pages(backend), include_in_schema=False)
    app.include_router(static_files(), include_in_schema=False)
    describe(app)
    return app
