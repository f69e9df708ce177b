"""Errors as RFC 9457 problem documents: the one place where the core's errors get an HTTP status."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus

import sqlalchemy as sa
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from service import tus
from service.dashboard import security
from service.dashboard.render import error_page
from tamis import errors
from tamis.store.outages import outage_of

log = logging.getLogger("tamis.service")

# Of the tus protocol, and no HTTP standard.
CHECKSUM_MISMATCH = 460
STATUS: dict[type[errors.TamisError], int] = {
    errors.InputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NotFoundError: HTTPStatus.NOT_FOUND,
    errors.ExpiredError: HTTPStatus.GONE,
    errors.ConflictError: HTTPStatus.CONFLICT,
    errors.BusyError: HTTPStatus.LOCKED,
    errors.AuthenticationError: HTTPStatus.UNAUTHORIZED,
    errors.LimitError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.QuotaError: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.ChecksumError: CHECKSUM_MISMATCH,
    errors.CancelledError: HTTPStatus.CONFLICT,
}
# Types of what the framework raises; not derived from the phrases, which Python has changed before.
KINDS = {
    400: "bad-request",
    401: errors.AuthenticationError.type,
    403: "forbidden",
    404: errors.NotFoundError.type,
    405: "method-not-allowed",
    408: "too-slow",
    412: "unknown-protocol-version",
    413: errors.LimitError.type,
    415: "unsupported-media-type",
    416: "range-not-satisfiable",
}
# What a validator calls a kind of value, of which a field may have several.
TYPES = {"int", "float", "str", "bool"}
DETAILS = {
    404: "There is nothing at this address. /api/openapi.json lists the addresses there are.",
    405: "This address does not take this method. /api/openapi.json lists those it takes.",
}


def install(app: FastAPI) -> None:
    """Registers the handlers that turn every error into application/problem+json, or a page where a browser asks."""

    @app.exception_handler(errors.TamisError)
    def known(request: Request, error: errors.TamisError) -> Response:
        status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), HTTPStatus.BAD_REQUEST)
        return problem(request, status, error.type, error.message, error.hint)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        told: dict[str, list[str]] = {}
        for entry in error.errors():
            told.setdefault(_field(entry["loc"]), []).append(entry["msg"].removeprefix("Value error, "))
        places = [{"field": field, "problem": ", or ".join(dict.fromkeys(each))} for field, each in told.items()]
        detail = "; ".join(f"{place['field']}: {place['problem']}" for place in places)
        return problem(
            request,
            HTTPStatus.UNPROCESSABLE_ENTITY,
            errors.InputError.type,
            f"The request is not valid: {detail}.",
            "Correct the named fields; /api/openapi.json describes them.",
            fields=places,
        )

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        if error.status_code < 400:
            return Response(status_code=error.status_code, headers=error.headers)
        status = HTTPStatus(error.status_code)
        kind = KINDS.get(error.status_code, "error")
        # Starlette's own errors say no more than the title does.
        detail = str(error.detail) if error.detail != status.phrase else DETAILS.get(error.status_code, status.phrase)
        return problem(request, status, kind, detail, headers=error.headers)

    @app.exception_handler(sa.exc.DBAPIError)
    def database(request: Request, error: sa.exc.DBAPIError) -> Response:
        log.warning("%s %s: the database refused", request.method, request.url.path, exc_info=error)
        return problem(request, *_database_problem(error))

    @app.exception_handler(ClientDisconnect)
    def gone(request: Request, error: ClientDisconnect) -> Response:
        return problem(request, HTTPStatus.BAD_REQUEST, KINDS[400], "The request broke off.", "Send it again.")

    @app.exception_handler(Exception)
    def unknown(request: Request, error: Exception) -> Response:
        away = outage_of(error)
        if away is not None:
            log.warning("%s %s: %s", request.method, request.url.path, away)
            what = away.partition(" (")[0].capitalize()
            unavailable = "unavailable", f"{what} does not answer.", "Try again in a moment."
            return problem(request, HTTPStatus.SERVICE_UNAVAILABLE, *unavailable, headers=security.HEADERS)
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem(
            request,
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "internal-error",
            "The server failed to answer.",
            "Its log has the cause; the request may be sent again.",
            # The framework answers this one outside of all middleware.
            headers=security.HEADERS,
        )


def problem(
    request: Request,
    status: int,
    kind: str,
    detail: str,
    hint: str = "",
    headers: Mapping[str, str] | None = None,
    **extra: object,
) -> Response:
    body = {
        "type": f"urn:tamis:problem:{kind}",
        "title": "Checksum Mismatch" if status == CHECKSUM_MISMATCH else HTTPStatus(status).phrase,
        "status": int(status),
        "detail": f"{detail} {hint}".strip(),
        **extra,
    }
    given = dict(headers or {})
    if status == HTTPStatus.UNAUTHORIZED:
        given["www-authenticate"] = "Bearer"
    if "tus-resumable" in request.headers:
        given["tus-resumable"] = tus.VERSION
    if not request.url.path.startswith("/api/") and "text/html" in request.headers.get("accept", ""):
        return error_page(request, status, body, given)
    return JSONResponse(body, status, headers=given, media_type="application/problem+json")


def _field(place: Sequence[str | int]) -> str:
    """The name of a field, without the validator's own names for the kinds of value that it may have."""
    names = [str(part) for part in place[1:] if str(part).isidentifier() or isinstance(part, int)]
    return ".".join(name for name in names if name not in TYPES) or "body"


def _database_problem(error: sa.exc.DBAPIError) -> tuple[HTTPStatus, str, str, str]:
    if isinstance(error, sa.exc.DataError):
        return (
            HTTPStatus.UNPROCESSABLE_ENTITY,
            errors.InputError.type,
            "The request holds a number or character that the database cannot take.",
            "Leave it out.",
        )
    if isinstance(error, sa.exc.IntegrityError):
        return (
            HTTPStatus.CONFLICT,
            errors.ConflictError.type,
            "Another request changed the same thing at the same time.",
            "Look at its present state and send yours again.",
        )
    if isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError):
        return HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "The database does not answer.", "Try again in a moment."
    return HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", "The database failed.", "The server's log has the cause."
