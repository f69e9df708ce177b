"""What every request of the API must be before a route sees it: of known parameters, and of a small body of JSON."""

import asyncio
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi._compat import ModelField
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel

from tamis.errors import InputError

# Of a body that is read whole; archives, embeddings and encoders are streamed.
MAX_BODY = 64 * 1024
BODY_SECONDS = 20.0


class CheckedRoute(APIRoute):
    """A route that refuses unknown query parameters, and bodies that are no JSON, too large or too slow."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle, known, takes_body = (
            super().get_route_handler(),
            _parameters(self.dependant),
            self.body_field is not None,
        )

        async def checked(request: Request) -> Response:
            unknown = sorted(set(request.query_params) - known)
            if unknown:
                takes = f"This address takes {', '.join(sorted(known))}." if known else "This address takes none."
                raise InputError(f"There is no query parameter {unknown[0][:100]!r} here.", takes)
            return await handle(_Bounded(request.scope, request.receive) if takes_body else request)

        return checked


class _Bounded(Request):
    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            if self.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                raise HTTPException(
                    HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send the body as JSON, with Content-Type: application/json."
                )
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    self._body = await self._read()
            except TimeoutError as error:
                told = f"The body did not arrive within {BODY_SECONDS:g} s. Send it again."
                raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, told) from error
        return self._body

    async def _read(self) -> bytes:
        content = bytearray()
        async for chunk in self.stream():
            content += chunk
            if len(content) > MAX_BODY:
                told = f"A body of JSON may have {MAX_BODY:,} bytes here. Send less at once."
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, told)
        return bytes(content)


def _parameters(dependant: Dependant) -> set[str]:
    """The names of the query parameters that a route and what it depends on take."""
    below = (_parameters(each) for each in dependant.dependencies)
    own = (_names(parameter) for parameter in dependant.query_params)
    return set().union(*own, *below)


def _names(parameter: ModelField) -> set[str]:
    """The fields of a model that stands for several parameters; else the one."""
    annotation = parameter.field_info.annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return set(annotation.model_fields)
    return {parameter.alias}
