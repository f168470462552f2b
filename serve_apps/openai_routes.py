"""The OpenAI API as FastAPI routes over a ChatService: the same under Ray Serve and under plain uvicorn."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from serve_apps.chat_service import ChatService
from tuneyard import __version__
from tuneyard.errors import AdminKeyError, EngineError, RequestError
from tuneyard.openai_answers import ChatCompletionChunk
from tuneyard.openai_api import ChatCompletionRequest, RenderRequest, error_body

logger = logging.getLogger(__name__)


def create_api(
    get_service: Callable[[], ChatService],
    on_shutdown: Callable[[], Awaitable[None]] | None = None,
    admin_key: str | None = None,
) -> FastAPI:
    """The FastAPI application. `get_service` is called per request, `on_shutdown` once at the end.

    Administrators' routes want `admin_key` as a bearer token; without a key they are closed.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if on_shutdown is not None:
            await on_shutdown()

    # Nothing of the schema pages is served: they would load scripts from a public CDN.
    api = FastAPI(title="Tuneyard", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    api.add_exception_handler(RequestError, _on_request_error)
    api.add_exception_handler(HTTPException, _on_http_error)
    api.add_exception_handler(Exception, _on_unexpected_error)

    @api.get("/v1/models")
    async def list_models() -> Response:
        return _json(get_service().models().model_dump())

    @api.post("/v1/chat/completions")
    async def create_chat_completion(request: Request) -> Response:
        parsed = ChatCompletionRequest.parse(await _json_body(request))
        if not parsed.stream:
            completion = await get_service().complete(parsed)
            return _json(completion.model_dump(exclude_none=False))
        chunks = await get_service().open_stream(parsed)
        return StreamingResponse(
            _server_sent_events(chunks),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )

    @api.post("/v1/chat/completions/render")
    async def render_prompt(request: Request) -> Response:
        _check_admin(request, admin_key)
        parsed = RenderRequest.parse(await _json_body(request))
        return _json(get_service().render(parsed).model_dump())

    @api.get("/healthz")
    async def healthz() -> Response:
        try:
            stats = await get_service().check_health()
        except EngineError as e:
            return JSONResponse({"status": "unhealthy", "reason": e.message}, status_code=503)
        return JSONResponse({"status": "ok", **dataclasses.asdict(stats)})

    return api


async def _server_sent_events(chunks: AsyncIterator[ChatCompletionChunk]) -> AsyncIterator[str]:
    """Chunks as SSE, closed by [DONE]. An error in mid-stream becomes an error event and no [DONE]:
    a cut answer must never look like a whole one.
    """
    try:
        async for chunk in chunks:
            yield f"data: {chunk.model_dump_json(exclude_none=True)}\n\n"
    except RequestError as e:
        logger.warning("stream ended by %s: %s", type(e).__name__, e.message)
        yield f"data: {json.dumps(error_body(e))}\n\n"
        return
    finally:
        await chunks.aclose()  # type: ignore[attr-defined]
    yield "data: [DONE]\n\n"


def _check_admin(request: Request, admin_key: str | None) -> None:
    """Raises AdminKeyError unless the request carries the key."""
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if admin_key is None or not secrets.compare_digest(given.encode(), admin_key.encode()):
        raise AdminKeyError(
            f"{request.url.path} is for administrators: send the key as 'Authorization: Bearer …'. It is "
            "TUNEYARD_ADMIN_KEY of the deployment, or lies in $TUNEYARD_HOME/admin_key.",
            code="admin_key_required",
        )


async def _json_body(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError) as e:
        raise RequestError(f"The request body is not valid JSON: {e}.", code="invalid_json") from e


def _json(content: Any) -> Response:
    return JSONResponse(content)


async def _on_request_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return JSONResponse(error_body(error), status_code=error.status_code)


async def _on_http_error(request: Request, error: Exception) -> Response:
    """Unknown paths and methods, in OpenAI's error shape."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}."
    return JSONResponse(error_body(RequestError(message)), status_code=error.status_code)


async def _on_unexpected_error(_: Request, error: Exception) -> Response:
    logger.error("unexpected error", exc_info=error)
    return JSONResponse(error_body(EngineError("Internal error; the server's log has the cause.")), status_code=500)
