"""What /api/openapi.json says beside the routes themselves: the form of errors, and how a key is sent."""

from typing import Any

from fastapi import FastAPI

from service.auth import API, COOKIE

PROBLEM = {
    "title": "Problem",
    "description": "What went wrong, as RFC 9457 has it, and what to do about it.",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:tamis:problem:not-found"]},
        "title": {"type": "string", "examples": ["Not Found"]},
        "status": {"type": "integer", "examples": [404]},
        "detail": {"type": "string", "examples": ["There is no dataset ds_1."]},
        "fields": {
            "description": "Of a request that is not valid: the fields that are wrong.",
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "problem"],
                "properties": {"field": {"type": "string"}, "problem": {"type": "string"}},
            },
        },
    },
}
REFUSED = {
    "description": "The request is refused, or cannot be answered now.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
SCHEMES = {
    "key": {"type": "http", "scheme": "bearer", "description": "A key of `tamis keys create NAME`."},
    "cookie": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "The same, of the dashboard."},
}


def describe(app: FastAPI) -> None:
    """Has the application describe its errors and keys too."""
    of_routes = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(of_routes())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation extends it


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for of_framework in ("HTTPValidationError", "ValidationError"):
        schemas.pop(of_framework, None)
    schemas["Problem"] = PROBLEM
    components["securitySchemes"] = SCHEMES
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"] |= {"4XX": REFUSED, "5XX": REFUSED}
            if path.startswith(f"{API}/"):
                # The last: a server on a loopback address asks for none.
                operation["security"] = [{"key": []}, {"cookie": []}, {}]
    return document
