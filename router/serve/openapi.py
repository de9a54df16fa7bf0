"""What the OpenAPI document says that the routes' signatures do not: bodies, headers, keys, problems."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from router.serve import messages as wire
from router.serve.problems import MEDIA_TYPE

_PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
_RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"description": "no key that is known", "content": _PROBLEM},
    404: {"description": "there is none, of this tenant", "content": _PROBLEM},
    408: {"description": "the body did not arrive in time", "content": _PROBLEM},
    409: {
        "description": "it was cancelled, something else was said before, or it cannot be exported",
        "content": _PROBLEM,
    },
    413: {"description": "the body is too long", "content": _PROBLEM},
    415: {"description": "the body is not application/json", "content": _PROBLEM},
    422: {"description": "refused; `field` and `remedy` say what would do", "content": _PROBLEM},
    429: {"description": "too often, or too much compute", "content": _PROBLEM, "headers": _RETRY_AFTER},
    503: {"description": "too much waits, or a dependency is down", "content": _PROBLEM, "headers": _RETRY_AFTER},
    504: {"description": "the deadline passed before there was any answer", "content": _PROBLEM},
}
_BODIES: dict[str, type[BaseModel]] = {
    "/v1/solve": wire.SolveBody,
    "/v1/decide": wire.DecideBody,
    "/v1/feedback": wire.FeedbackBody,
}
_HEADERS = [
    {
        "name": "Prefer",
        "in": "header",
        "description": "`respond-async`: answer 202 with an id to ask for; with events these begin with it",
        "schema": {"type": "string", "enum": ["respond-async"]},
    },
    {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "the same request under the same key is done once",
        "schema": {"type": "string", "pattern": "^[!-~]{1,200}$"},
    },
]


def takes(path: str) -> dict[str, Any]:
    """Return what is said of a route's body and headers."""
    if path not in _BODIES:
        return {}
    name = _BODIES[path].__name__
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    extra: dict[str, Any] = {"requestBody": {"required": True, "content": content}}
    if path == "/v1/solve":
        extra["parameters"] = _HEADERS
    return extra


def link(operation: str, pointer: str, parameter: str) -> dict[str, Any]:
    """Return that a value of an answer is what another route takes."""
    return {"operationId": operation, "parameters": {parameter: f"$response.body#{pointer}"}}


def complete(app: FastAPI) -> None:
    """Let the document name the schemas of bodies and problems, and say that a key is needed."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = made()
            components = document.setdefault("components", {})
            schemas = components.setdefault("schemas", {})
            models: list[type[BaseModel]] = [*_BODIES.values(), wire.Problem]
            for model in models:
                schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
                schemas.update(schema.pop("$defs", {}))
                schemas[model.__name__] = schema
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            document["security"] = [{"key": []}]
            document["paths"]["/health"]["get"]["security"] = []
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
