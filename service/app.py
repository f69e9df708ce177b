"""The ASGI application: API, dashboard, error documents."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware

from service import dashboard, problems
from service.auth import authenticate
from service.backend import open_backend
from service.routes import curations, datasets, decisions, embeddings, health, jobs, manifests, trainings
from service.views import PageViews
from tamis.settings import Settings
from tamis.version import __version__

LOOPBACK_HOSTS = ["localhost", "127.0.0.1", "[::1]", "::1"]


def create_app(settings: Settings, *, require_key: bool) -> FastAPI:
    """The service over one catalogue. With `require_key` every call and page needs an API key.

    Without it the app answers only to loopback host names, so that no other site can reach it through a browser by
    pointing a name of its own at this machine.
    """
    backend = open_backend(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.stopping = asyncio.Event()
        yield
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
    problems.install(app)
    dashboard.secure(app)
    if not require_key:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK_HOSTS)
    guarded = [Depends(authenticate)]
    for module in (datasets, embeddings, curations, manifests, trainings, decisions, jobs):
        app.include_router(module.router, prefix="/api/v1", dependencies=guarded)
    app.include_router(health.router)
    app.include_router(dashboard.pages(PageViews(backend)), dependencies=guarded, include_in_schema=False)
    app.mount("/static", dashboard.static_files(), name="static")
    return app
