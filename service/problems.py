"""Errors as RFC 9457 problem documents: the one place where the core's errors get an HTTP status."""

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from tamis import errors

log = logging.getLogger("tamis.service")

STATUS: dict[type[errors.TamisError], HTTPStatus] = {
    errors.InputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NotFoundError: HTTPStatus.NOT_FOUND,
    errors.ConflictError: HTTPStatus.CONFLICT,
    errors.AuthenticationError: HTTPStatus.UNAUTHORIZED,
    errors.LimitError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.CancelledError: HTTPStatus.CONFLICT,
}


def install(app: FastAPI) -> None:
    """Registers the handlers that turn every error into application/problem+json."""

    @app.exception_handler(errors.TamisError)
    def known(request: Request, error: errors.TamisError) -> Response:
        status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), HTTPStatus.BAD_REQUEST)
        return problem(status, error.type, error.message, error.hint)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        places = [
            {"field": ".".join(str(part) for part in entry["loc"][1:]) or "body", "problem": entry["msg"]}
            for entry in error.errors()
        ]
        detail = "; ".join(f"{place['field']}: {place['problem']}" for place in places)
        return problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            errors.InputError.type,
            f"The request is not valid: {detail}.",
            "Correct the named fields; /api/openapi.json describes them.",
            fields=places,
        )

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        return problem(status, status.phrase.lower().replace(" ", "-"), str(error.detail), headers=error.headers)

    @app.exception_handler(Exception)
    def unknown(request: Request, error: Exception) -> Response:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "internal-error",
            "The server failed to answer.",
            "Its log has the cause; the request may be sent again.",
        )


def problem(
    status: HTTPStatus,
    kind: str,
    detail: str,
    hint: str = "",
    headers: "dict[str, str] | None | object" = None,
    **extra: object,
) -> JSONResponse:
    body = {
        "type": f"urn:tamis:problem:{kind}",
        "title": status.phrase,
        "status": int(status),
        "detail": f"{detail} {hint}".strip(),
        **extra,
    }
    fixed = {"www-authenticate": "Bearer"} if status is HTTPStatus.UNAUTHORIZED else {}
    given = dict(headers) if isinstance(headers, dict) else {}
    return JSONResponse(body, status, headers={**given, **fixed}, media_type="application/problem+json")
