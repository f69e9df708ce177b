"""Who changed what: a line for each request that changes something, however it is answered."""

import logging

import sqlalchemy as sa
from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.auth import API, READING, this_caller
from tamis.store.schema import AuditLine

log = logging.getLogger("tamis.service")


class Audited:
    """ASGI middleware: the line is stored before the request is answered, so that nothing acknowledged lacks one.

    The parts of an upload, of which there are many, have none; its beginning and its end have.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _is_change(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        request = Request(scope)

        async def audited(message: Message) -> None:
            if message["type"] == "http.response.start":
                await run_in_threadpool(_keep, request, message["status"])
            await send(message)

        await self._app(scope, receive, audited)


def _is_change(method: str, path: str) -> bool:
    part = method == "PATCH" and path.startswith(f"{API}/uploads/")
    return path.startswith(f"{API}/") and method not in READING and not part


def _keep(request: Request, status: int) -> None:
    caller = this_caller(request)
    told = {"key_id": caller.key_id, "by": caller.name, "method": request.method, "path": request.url.path[:500]}
    try:
        with request.app.state.backend.catalog.session() as session:
            session.add(AuditLine(**told, status=status))
    except sa.exc.DBAPIError as error:
        # What is done is done, and its answer is owed.
        log.error("%(method)s %(path)s by %(by)s could not be audited", told, exc_info=error)
