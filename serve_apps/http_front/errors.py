"""Errors as HTTP answers in OpenAI's format, with Retry-After where retrying later helps."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from tuneyard.api.wire.errors import error_body
from tuneyard.core.errors import (
    EngineError,
    OverloadedError,
    QuotaError,
    RateLimitError,
    RequestError,
    StoreUnavailableError,
)

logger = logging.getLogger(__name__)


def add_error_handlers(api: FastAPI) -> None:
    """Answers every exception of the API's routes in OpenAI's format."""
    api.add_exception_handler(RequestError, _on_request_error)
    api.add_exception_handler(HTTPException, _on_http_error)
    api.add_exception_handler(Exception, _on_unexpected_error)


async def _on_request_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return JSONResponse(error_body(error), status_code=error.status_code, headers=_retry_after(error))


def _retry_after(error: RequestError) -> dict[str, str]:
    """The header Retry-After, in seconds, for errors that say when to retry.

    OpenAI's clients retry every status 429; x-should-retry tells them that a budget does not renew so soon.
    """
    if isinstance(error, QuotaError):
        return {"Retry-After": str(error.retry_after_s), "x-should-retry": "false"}
    if isinstance(error, RateLimitError | OverloadedError | StoreUnavailableError):
        return {"Retry-After": str(error.retry_after_s)}
    return {}


async def _on_http_error(request: Request, error: Exception) -> Response:
    """Answers FastAPI's own errors: unknown paths, and methods that a path does not have."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}."
    return JSONResponse(error_body(RequestError(message)), status_code=error.status_code)


async def _on_unexpected_error(_: Request, error: Exception) -> Response:
    logger.error("unexpected error", exc_info=error)
    return JSONResponse(error_body(EngineError("Internal error; the server's log has the cause.")), status_code=500)
