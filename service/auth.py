"""Who may call: API keys, as bearer token or in a browser's cookie; and no page of another site may change things."""

import hashlib
import ipaddress
import secrets
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Literal, cast, get_args
from urllib.parse import urlsplit

import sqlalchemy as sa
from fastapi import HTTPException, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from service import problems
from tamis.errors import AuthenticationError, InputError, NotFoundError
from tamis.store.catalog import Catalog
from tamis.store.schema import ApiKey, new_id, now

API = "/api/v1"
# What a key may do, each also what those before it may.
Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
COOKIE = "tamis_key"
READING = {"GET", "HEAD", "OPTIONS"}
# A key's last use is noted no more often than this, so that reading pages does not mean writing to the database.
NOTED_EVERY = timedelta(minutes=1)


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
    required, and those that a page of another site sent; of every address, letters that no name here has."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        refusal = None
        if not scope["path"].isprintable():
            refusal = problems.problem(request, HTTPStatus.NOT_FOUND, NotFoundError.type, problems.DETAILS[404])
        elif scope["path"].startswith(f"{API}/"):
            # Without keys nothing is looked up, and a thread is not worth its while.
            keyed = request.app.state.require_key
            refusal = await run_in_threadpool(_refusal, request) if keyed else _refusal(request)
        await (refusal or self._app)(scope, receive, send)


def _refusal(request: Request) -> Response | None:
    try:
        refuse_other_sites(request)
    except HTTPException as error:
        return problems.problem(request, error.status_code, problems.KINDS[error.status_code], error.detail)
    scope, needed = scope_of_request(request), scope_needed(request.method, request.url.path)
    if scope is not None and SCOPES.index(scope) >= SCOPES.index(needed):
        return None
    if scope is not None:
        return problems.problem(
            request,
            HTTPStatus.FORBIDDEN,
            problems.KINDS[403],
            f"This key may {scope}, and this request needs one that may {needed}.".replace("admin", "administer"),
            "Make one with `tamis keys create NAME --scope` beside the server.",
        )
    return problems.problem(
        request,
        HTTPStatus.UNAUTHORIZED,
        AuthenticationError.type,
        "This server needs an API key.",
        "Make one with `tamis keys create NAME` beside the server and send it as `Authorization: Bearer KEY`.",
    )


def is_signed_in(request: Request) -> bool:
    return scope_of_request(request) is not None


def scope_of_request(request: Request) -> Scope | None:
    """What the request may do by its key; None without one that stands."""
    if not request.app.state.require_key:
        return "admin"
    return scope_of(request.app.state.backend.catalog, _key_of(request))


def _key_of(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else request.cookies.get(COOKIE, "")


def name_of_caller(request: Request) -> str:
    """What the key of a request is called; empty where none is needed."""
    if not request.app.state.require_key:
        return ""
    with request.app.state.backend.catalog.reading() as session:
        return session.scalar(sa.select(ApiKey.name).where(ApiKey.hash == _hash(_key_of(request)))) or ""


def scope_needed(method: str, path: str) -> Scope:
    """To read, to write, or to delete for good; an upload that is given up is no loss."""
    if method in READING:
        return "read"
    return "admin" if method == "DELETE" and not path.startswith(f"{API}/uploads/") else "write"


def refuse_other_sites(request: Request) -> None:
    """Refuses state changes sent by a page of another site, which a browser would send even to a loopback address.

    A page of this site is one of the host that was asked for. A proxy before a server with keys may tell that host by
    X-Forwarded-Host, which no page of another site can send along: the browser would ask this server first.
    """
    origin = request.headers.get("origin")
    if request.method in READING or origin is None:
        return
    own = [request.headers.get("host", "")]
    if request.app.state.require_key:
        own.append(request.headers.get("x-forwarded-host", "").partition(",")[0].strip())
    if origin.partition("://")[2] not in filter(None, own):
        raise HTTPException(
            HTTPStatus.FORBIDDEN,
            f"Requests from pages of {origin} are refused. Open this server's dashboard. If you did, a proxy changes "
            "the Host header: have it keep the browser's, in nginx by `proxy_set_header Host $http_host;`.",
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


def scope_of(catalog: Catalog, key: str) -> Scope | None:
    """What `key` may do; None if it was not made here, is revoked or has expired."""
    moment = now()
    standing = ApiKey.revoked_at.is_(None), sa.or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > moment)
    with catalog.reading() as session:
        row = session.scalar(sa.select(ApiKey).where(ApiKey.hash == _hash(key), *standing))
    if row is None:
        return None
    if row.last_used_at is None or moment - row.last_used_at > NOTED_EVERY:
        with catalog.session() as session:
            session.execute(sa.update(ApiKey).where(ApiKey.id == row.id).values(last_used_at=moment))
    return cast(Scope, row.scope)


def create_key(
    catalog: Catalog, name: str, scope: Scope = "admin", expires_at: datetime | None = None
) -> tuple[str, str]:
    """Makes a key and returns (id, key). The key itself is shown this once; only its hash is stored."""
    if not name.strip() or not name.isprintable():
        raise InputError("A key needs a name of printable characters.", "Name it after who or what will use it.")
    key = f"tamis_{secrets.token_urlsafe(32)}"
    with catalog.session() as session:
        row = ApiKey(id=new_id("key"), name=name, hash=_hash(key), prefix=key[:12], scope=scope, expires_at=expires_at)
        session.add(row)
        return row.id, key


def list_keys(catalog: Catalog) -> list[ApiKey]:
    with catalog.session() as session:
        rows = list(session.scalars(sa.select(ApiKey).order_by(ApiKey.created_at)))
        session.expunge_all()
        return rows


def revoke_key(catalog: Catalog, key_id: str) -> None:
    with catalog.session() as session:
        row = session.get(ApiKey, key_id)
        if row is None:
            raise NotFoundError(f"There is no key {key_id}.", "`tamis keys list` shows them.")
        row.revoked_at = row.revoked_at or now()


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()
