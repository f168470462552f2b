"""The OpenAPI document of the API.

Routes parse requests themselves, to answer errors in OpenAI's format, so FastAPI does not know the requests' schemas.
This module adds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from tuneyard.api.wire.chat_request import ChatCompletionRequest, RenderRequest
from tuneyard.api.wire.completions import CompletionRequest
from tuneyard.api.wire.responses.request import ResponsesRequest
from tuneyard.api.wire.tokenization import DetokenizeRequest, TokenizeRequest

REQUESTS: tuple[type[BaseModel], ...] = (
    ChatCompletionRequest,
    CompletionRequest,
    DetokenizeRequest,
    RenderRequest,
    ResponsesRequest,
    TokenizeRequest,
)
_REFERENCE = "#/components/schemas/{model}"


class ErrorDetails(BaseModel):
    """The content of OpenAI's error object."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """The body of every answer that is an error."""

    error: ErrorDetails


class Health(BaseModel):
    """The answer of /healthz and /readyz."""

    status: str
    requests: int = 0
    kv_cache_usage: float = Field(default=0.0, ge=0, le=1)
    reason: str | None = None


class Version(BaseModel):
    """The answer of /version."""

    version: str


_ERROR_CONTENT = {"application/json": {"schema": {"$ref": _REFERENCE.format(model=ErrorBody.__name__)}}}

ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"content": _ERROR_CONTENT, "description": description}
    for code, description in (
        (400, "The request is invalid; `param` names the field."),
        (401, "No valid API key."),
        (403, "The key may not do this."),
        (404, "The model does not exist."),
        (408, "The body did not arrive in time."),
        (413, "The body is too large."),
        (415, "The body is not declared as application/json."),
        (429, "A limit of the key is reached; Retry-After says when to retry."),
        (500, "The engine failed."),
        (503, "Not ready, or the queue is full; Retry-After says when to retry."),
    )
}
"""`responses` of a route: every error status with its body. By reference: FastAPI would compile a model anew for each
status of each route."""

STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer; with stream=true in chunks.", "content": {"text/event-stream": {}}},
    **ERRORS,
}
"""`responses` of a route that can stream."""


def request_body(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route whose request body is this model."""
    schema = {"$ref": _REFERENCE.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def install_document(api: FastAPI, requests: Sequence[type[BaseModel]] = REQUESTS) -> None:
    """Makes the application's /openapi.json complete: with the schemas of requests and of errors."""

    def document() -> dict[str, Any]:
        if api.openapi_schema is None:
            content = get_openapi(title=api.title, version=api.version, routes=api.routes)
            models: list[type[BaseModel]] = [*requests, ErrorBody]
            _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_REFERENCE)
            schemas = content.setdefault("components", {}).setdefault("schemas", {})
            for name, schema in definitions["$defs"].items():
                schemas.setdefault(name, schema)
            api.openapi_schema = content
        return api.openapi_schema

    api.openapi = document  # type: ignore[method-assign]
