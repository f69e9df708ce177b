"""Who may call: API keys, as bearer token or in a browser's cookie; how often; and no page of another site."""

import ipaddress
import time
from http import HTTPStatus
from urllib.parse import urlsplit

from fastapi import HTTPException, Request, Response
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from service import problems
from service.keys import ANYONE, SCOPES, Caller, Scope, caller_with
from tamis.errors import AuthenticationError, NotFoundError

API = "/api/v1"
COOKIE = "tamis_key"
READING = {"GET", "HEAD", "OPTIONS"}
# Who may make and revoke keys may do everything: these are read by administrators alone.
ADMINISTRATION = tuple(f"{API}/{name}" for name in ("keys", "audit", "settings"))


def is_loopback(host: str) -> bool:
    """Whether a bind address is reachable from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guarded:
    """ASGI middleware: refuses before any of a body is read. Of the API, requests without a standing key, where one is
    required, and those that a page of another site sent; of every address, letters that no name here has, and, where
    keys are required, more requests a minute than the settings allow a key, or an address that sent none."""

    def __init__(self, app: ASGIApp, requests_per_minute: int) -> None:
        self._app = app
        self._allowed = RateLimitItemPerMinute(requests_per_minute)
        self._rates = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        refusal = None
        if not scope["path"].isprintable():
            refusal = problems.problem(request, HTTPStatus.NOT_FOUND, NotFoundError.type, problems.DETAILS[404])
        elif request.app.state.require_key:
            refusal = await run_in_threadpool(self._refusal, request)
        elif scope["path"].startswith(f"{API}/"):
            # Without keys nothing is looked up, and a thread is not worth its while.
            refusal = _refusal(request)
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        caller = caller_of(request)
        name = caller.key_id if caller else request.client.host if request.client else ""
        if not self._rates.hit(self._allowed, name):
            wait = max(1, round(self._rates.get_window_stats(self._allowed, name).reset_time - time.time()))
            return problems.problem(
                request,
                HTTPStatus.TOO_MANY_REQUESTS,
                "too-many-requests",
                f"A key may send {self._allowed.amount:,} requests a minute here.",
                f"Try again in {wait} s; TAMIS_REQUESTS_PER_MINUTE sets how many.",
                headers={"retry-after": str(wait)},
            )
        return _refusal(request) if request.url.path.startswith(f"{API}/") else None


def _refusal(request: Request) -> Response | None:
    try:
        refuse_other_sites(request)
    except HTTPException as error:
        return problems.problem(request, error.status_code, problems.KINDS[error.status_code], error.detail)
    caller, needed = caller_of(request), scope_needed(request.method, request.url.path)
    if caller is not None and SCOPES.index(caller.scope) >= SCOPES.index(needed):
        return None
    if caller is not None:
        return problems.problem(
            request,
            HTTPStatus.FORBIDDEN,
            problems.KINDS[403],
            f"This key may {caller.scope}, and this request needs one that may {needed}.".replace(
                "admin", "administer"
            ),
            "Make one with `tamis keys create NAME --scope` beside the server.",
        )
    return problems.problem(
        request,
        HTTPStatus.UNAUTHORIZED,
        AuthenticationError.type,
        "This server needs an API key.",
        "Make one with `tamis keys create NAME` beside the server and send it as `Authorization: Bearer KEY`.",
    )


def caller_of(request: Request) -> Caller | None:
    """Whose request it is, looked up once; None without a key that stands, where one is required."""
    if not request.app.state.require_key:
        return ANYONE
    if not hasattr(request.state, "caller"):
        # Who sends none needs no database: that the server lives is answered while that is away.
        key = _key_of(request)
        request.state.caller = caller_with(request.app.state.backend.catalog, key) if key else None
    return request.state.caller  # type: ignore[no-any-return]  # starlette's State


def _key_of(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else request.cookies.get(COOKIE, "")


def this_caller(request: Request) -> Caller:
    """The same in a route, which nobody else reaches."""
    caller = caller_of(request)
    assert caller is not None, "refused before"
    return caller


def scope_needed(method: str, path: str) -> Scope:
    """To read, to write, or to delete for good; an upload that is given up is no loss."""
    if path.startswith(ADMINISTRATION):
        return "admin"
    if method in READING:
        return "read"
    return "admin" if method == "DELETE" and not path.startswith(f"{API}/uploads/") else "write"


def refuse_other_sites(request: Request) -> None:
    """Refuses state changes sent by a page of another site, which a browser would send even to a loopback address.

    A page of this site is one of the host that was asked for. Behind a proxy that changes it, the browser says so by
    Sec-Fetch-Site, which no page can set, or the proxy by X-Forwarded-Host, which no page of another site can send
    along: the browser would ask this server first.
    """
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    if request.method in READING or origin is None or site == "same-origin":
        return
    asked = request.headers.get("host", "")
    told = request.headers.get("x-forwarded-host", "").partition(",")[0].strip()
    if origin.partition("://")[2] in filter(None, (asked, told)):
        return
    if site is not None:
        raise HTTPException(
            HTTPStatus.FORBIDDEN, f"Requests from pages of {origin} are refused. Open this server's dashboard."
        )
    raise HTTPException(
        HTTPStatus.BAD_REQUEST,
        f"A page of {origin} asks the host {asked}, which is another: refused, as it may be another site. If it is "
        "this server's dashboard, a proxy changes the Host header: have it keep the browser's, in nginx by "
        "`proxy_set_header Host $http_host;`.",
    )


class LoopbackHosts:
    """ASGI middleware: answers only to loopback host names.

    No other site can then reach a server without keys through a browser, by pointing a name of its own at it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _names_loopback(Request(scope)):
            await self._app(scope, receive, send)
            return
        answer = problems.problem(
            Request(scope),
            HTTPStatus.BAD_REQUEST,
            "unknown-host",
            "This server answers only to localhost.",
            "Open it as http://localhost:PORT. Behind a proxy, or under another name, serve with --keys or --host, "
            "which ask for API keys.",
        )
        await answer(scope, receive, send)


def _names_loopback(request: Request) -> bool:
    try:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname
    except ValueError:
        return False
    return host is not None and is_loopback(host)
