"""The API's OpenAPI document: requests are parsed by hand, for OpenAI's error shape, so their schemas come in here."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from tuneyard.api.requests import (
    ChatCompletionRequest,
    CompletionRequest,
    DetokenizeRequest,
    RenderRequest,
    TokenizeRequest,
)

REQUESTS: tuple[type[BaseModel], ...] = (
    ChatCompletionRequest,
    CompletionRequest,
    DetokenizeRequest,
    RenderRequest,
    TokenizeRequest,
)
_REFERENCE = "#/components/schemas/{model}"


class ErrorDetails(BaseModel):
    """OpenAI's error object."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    error: ErrorDetails


class Health(BaseModel):
    status: str
    requests: int = 0
    kv_cache_usage: float = Field(default=0.0, ge=0, le=1)
    reason: str | None = None


class Version(BaseModel):
    version: str


ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": ErrorBody, "description": what}
    for code, what in (
        (400, "What the request gets wrong; `param` names it."),
        (401, "No valid API key."),
        (403, "The key may not do this."),
        (404, "No such model."),
        (413, "The body is too large."),
        (429, "Over a limit; Retry-After says when to try again."),
        (500, "The engine failed."),
        (503, "Not ready, or a full queue; Retry-After says when to try again."),
    )
}


STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer; with stream=true in chunks.", "content": {"text/event-stream": {}}},
    **ERRORS,
}
"""Of routes that can stream."""


def body(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route that takes this model."""
    schema = {"$ref": _REFERENCE.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def install_document(api: FastAPI) -> None:
    """Makes the application's /openapi.json complete."""

    def document() -> dict[str, Any]:
        if api.openapi_schema is None:
            found = get_openapi(title=api.title, version=api.version, routes=api.routes)
            _, definitions = models_json_schema([(model, "validation") for model in REQUESTS], ref_template=_REFERENCE)
            schemas = found.setdefault("components", {}).setdefault("schemas", {})
            for name, schema in definitions["$defs"].items():
                schemas.setdefault(name, schema)
            api.openapi_schema = found
        return api.openapi_schema

    api.openapi = document  # type: ignore[method-assign]
