"""What each request took, in the metrics and, where asked, in the log; and an id by which the log tells it."""

import logging
import re
import secrets
import time

from prometheus_client import Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.auth import API
from tamis.logs import about

log = logging.getLogger("tamis.service")

HEADER = "x-request-id"
# Of a proxy before the server, whose own log knows it.
GIVEN = re.compile(r"[\w.:-]{1,100}", re.ASCII)
# Whoever asks may make up others, and each would be kept for ever.
METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS")
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)


def request_seconds() -> Histogram:
    """By method, route as the API's description has it, and status."""
    labels = ["method", "route", "status"]
    return Histogram("tamis_request_seconds", "Time to answer.", labels, buckets=SECONDS, registry=None)


class Observed:
    """ASGI middleware, around all others."""

    def __init__(self, app: ASGIApp, log_requests: bool) -> None:
        self._app, self._log_requests = app, log_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if GIVEN.fullmatch(given) else secrets.token_hex(8)
        # Of an answer that never began.
        status, began = 0, time.perf_counter()

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        with about(request=request_id):
            try:
                await self._app(scope, receive, observed)
            finally:
                seconds = time.perf_counter() - began
                route = _route(scope)
                method = scope["method"] if scope["method"] in METHODS else "other"
                scope["app"].state.requests.labels(method, route, status).observe(seconds)
                if self._log_requests:
                    log.info("%s %s %d %.0f ms", scope["method"], scope["path"], status, 1000 * seconds)


def _route(scope: Scope) -> str:
    """As the API's description has it: some versions of the framework leave the prefix of a router out."""
    path = str(getattr(scope.get("route"), "path", "none"))
    return API + path if scope["path"].startswith(f"{API}/") and path.startswith("/") and API not in path else path
