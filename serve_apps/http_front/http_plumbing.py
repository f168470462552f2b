"""What every HTTP front of ours does alike: request ids, bodies, OpenAI's errors, events, keys."""

from __future__ import annotations

import inspect
import json
import logging
import re
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from serve_apps.http_front.key_gate import KeyGate
from serve_apps.metrics.measured_engine import CHARGE
from tuneyard import __version__
from tuneyard.api.requests import error_body
from tuneyard.core.errors import BodyTooLargeError, EngineError, OverloadedError, RateLimitError, RequestError

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 16 * 2**20
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
DONE = "data: [DONE]\n\n"
"""The last event of a whole stream."""
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


def base_api(headers: dict[str, str], lifespan: Any = None, *, gives_request_ids: bool = True) -> FastAPI:
    """An application with OpenAI's errors and with `headers` on every answer; no routes yet.

    Ray Serve's proxy gives request ids itself; without it `gives_request_ids` does.
    """
    # Nothing of the schema pages is served: they would load scripts from a public CDN.
    api = FastAPI(title="Tuneyard", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    api.add_exception_handler(RequestError, _on_request_error)
    api.add_exception_handler(HTTPException, _on_http_error)
    api.add_exception_handler(Exception, _on_unexpected_error)
    api.add_middleware(_Headers, headers=headers, gives_request_ids=gives_request_ids)
    return api


class _Headers:
    """ASGI middleware: every answer has the request's X-Request-Id, or a new one, and the API's own headers."""

    def __init__(self, app: Any, headers: dict[str, str], gives_request_ids: bool) -> None:
        self._app = app
        self._gives_request_ids = gives_request_ids
        self._own = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else uuid.uuid4().hex

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                own = [(b"x-request-id", request_id.encode())] if self._gives_request_ids else []
                own += self._own
                message = {**message, "headers": [*message.get("headers", []), *own]}
            await send(message)

        await self._app(scope, receive, with_headers)


class Admitted:
    """Context manager around the answer to a request that was let in: charges its tokens, gives its place back."""

    def __init__(self, gate: KeyGate, request: Request, model: str) -> None:
        self._grant = gate.admit(authorization(request), model)
        self._is_streaming = False

    def __enter__(self) -> Self:
        self._token = CHARGE.set(self._grant.charge)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        CHARGE.reset(self._token)
        if not self._is_streaming:
            self._grant.close()

    def whole(self, content: BaseModel) -> Response:
        return JSONResponse(content.model_dump(), headers=self._grant.headers())

    def streamed(self, chunks: AsyncIterator[Any]) -> Response:
        """The place is given back when the stream ends, however it ends."""
        self._is_streaming = True
        return EventStream(server_sent_events(chunks), [self._grant.close, chunks.aclose], self._grant.headers())  # type: ignore[attr-defined]


class EventStream(StreamingResponse):
    """Server-sent events. Whatever becomes of the client, `at_end` is called, even when no event was ever read: a
    generator that was never started runs no `finally`.
    """

    def __init__(
        self, events: AsyncIterator[str], at_end: Sequence[Callable[[], Any]], headers: Mapping[str, str]
    ) -> None:
        super().__init__(events, media_type="text/event-stream", headers=STREAM_HEADERS | dict(headers))
        self._events = events
        self._at_end = at_end

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._events.aclose()  # type: ignore[attr-defined]
            for action in self._at_end:
                if inspect.isawaitable(result := action()):
                    await result


def authorization(request: Request) -> str:
    return request.headers.get("Authorization", "")


def error_event(error: RequestError) -> str:
    """The error as the last event of a stream."""
    return f"data: {json.dumps(error_body(error))}\n\n"


async def server_sent_events(chunks: AsyncIterator[BaseModel]) -> AsyncGenerator[str, None]:
    """Chunks as SSE, closed by [DONE]. An error in mid-stream becomes an error event and no [DONE]:
    a cut answer must never look like a whole one.
    """
    try:
        async for chunk in chunks:
            yield f"data: {chunk.model_dump_json(exclude_none=True)}\n\n"
    except RequestError as e:
        logger.warning("stream ended by %s: %s", type(e).__name__, e.message)
        yield error_event(e)
        return
    finally:
        await chunks.aclose()  # type: ignore[attr-defined]
    yield DONE


async def json_body(request: Request) -> Any:
    """The body as JSON. Raises RequestError when it is none, or larger than MAX_BODY_BYTES: before it is read in."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MAX_BODY_BYTES:
            raise BodyTooLargeError(f"The request body is larger than {MAX_BODY_BYTES // 2**20} MiB.")
    try:
        found = json.loads(bytes(data), parse_constant=_no_number)
        if b"\\ud" in data.lower():
            # Half a character, which no text can hold.
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as e:
        raise RequestError(f"The request body is not valid JSON: {e}.", code="invalid_json") from e
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def error_response(error: RequestError) -> Response:
    """The error as HTTP has it."""
    headers = {}
    if isinstance(error, RateLimitError | OverloadedError):
        headers["Retry-After"] = str(error.retry_after_s)
    return JSONResponse(error_body(error), status_code=error.status_code, headers=headers)


async def _on_request_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return error_response(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    """Unknown paths and methods, in OpenAI's error shape."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}."
    return JSONResponse(error_body(RequestError(message)), status_code=error.status_code)


async def _on_unexpected_error(_: Request, error: Exception) -> Response:
    logger.error("unexpected error", exc_info=error)
    return JSONResponse(error_body(EngineError("Internal error; the server's log has the cause.")), status_code=500)
