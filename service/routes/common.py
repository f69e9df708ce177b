"""What the routes share: dependencies, idempotent creation, and lists."""

import hashlib
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import sqlalchemy as sa
from fastapi import Depends, Header, Path, Query, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from service.backend import Backend, backend
from service.bodies import MAX_INTEGER
from service.schemas import Page
from service.views import found
from tamis.store.catalog import page, recall, remember

BackendDep = Annotated[Backend, Depends(backend)]
IdempotencyKey = Annotated[
    str | None,
    Header(alias="Idempotency-Key", max_length=200, description="The same key and body give the same object again."),
]
Cursor = Annotated[str | None, Query(max_length=500, description="`next` of the page before.")]
Cascade = Annotated[bool, Query(description="Deletes what depends on it too.")]
Limit = Annotated[int, Query(ge=1, le=500)]
Number = Annotated[int, Path(ge=0, le=MAX_INTEGER)]
NumberFilter = Annotated[int | None, Query(ge=0, le=MAX_INTEGER)]

# How the description tells of a body that is streamed.
BINARY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
# Of what never changes under its address.
IMMUTABLE = "private, max-age=31536000, immutable"

Row = TypeVar("Row")
View = TypeVar("View")


def create_once(
    backend: Backend,
    model: type[Row],
    route: str,
    key: str | None,
    body: BaseModel,
    make: Callable[[Session], Row],
    view: Callable[[Row], View],
) -> View:
    """The view of `make()`'s row, or of the row that the same idempotency key made before.

    Raises ConflictError when the key came with another body.
    """

    def attempt() -> View:
        with backend.catalog.session() as session:
            return view(_once(session, model, route, key, body, make))

    try:
        return attempt()
    except sa.exc.IntegrityError:
        # A request with the same key, sent at the same time, was faster; or what this one refers to has just been
        # deleted. A second look tells which.
        return attempt()


def _once(
    session: Session, model: type[Row], route: str, key: str | None, body: BaseModel, make: Callable[[Session], Row]
) -> Row:
    if key is None:
        return make(session)
    request_hash = hashlib.sha256(body.model_dump_json().encode()).hexdigest()
    known = recall(session, key, route, request_hash)
    if known is not None:
        # As text, where ids of decisions are numbers.
        kind: Any = model
        return found(session, model, kind.id.type.python_type(known))
    row: Any = make(session)
    remember(session, key, route, request_hash, str(row.id))
    return row  # type: ignore[no-any-return]  # Any above, because a type variable has no `id`


def list_page(
    session: Session,
    query: "sa.Select[Row]",
    model: type[Row],
    view: Callable[[Row], View],
    cursor: str | None,
    limit: int,
) -> Page[View]:
    rows, following = page(session, query, model, cursor, limit)
    return Page(items=[view(row) for row in rows], next=following)


def located(response: Response, path: str) -> None:
    response.headers["location"] = f"/api/v1{path}"


def matches(request: Request, etag: str) -> bool:
    """Whether the client says that it has this version already."""
    known = request.headers.get("if-none-match", "")
    return known.strip() == "*" or etag in known
