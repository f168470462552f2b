"""Server-sent events: chunks as events, and the response that closes the engine's stream when the client leaves."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from serve_apps.http_front.heartbeat import send_with_heartbeats
from tuneyard.api.wire.errors import error_body
from tuneyard.api.wire.responses.events import ResponseEvent
from tuneyard.core.errors import RequestError

logger = logging.getLogger(__name__)

DONE_EVENT = "data: [DONE]\n\n"
"""The last event of a complete stream."""

LAST_RESPONSE_EVENTS = ("event: response.completed\n", "event: response.incomplete\n")
"""How the last event of a complete response begins."""

STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""Keep proxies from caching and buffering events; X-Accel-Buffering is nginx's."""

_USAGE = {"usage"}

ItemOut = TypeVar("ItemOut", covariant=True)


class ClosableStream(Protocol[ItemOut]):
    """An asynchronous iterator that must be closed."""

    def __aiter__(self) -> AsyncIterator[ItemOut]: ...

    async def aclose(self) -> None: ...


class EventStreamResponse(StreamingResponse):
    """Sends events until they end or the client disconnects; then closes `events` and calls `on_close` in order.

    A comment comes at once, and again whenever there was no event for `heartbeat_s` seconds. The closing happens even
    if no event was ever read, for which a `finally` inside the generator would not do: a generator that was never
    started does not run it.
    """

    def __init__(
        self,
        events: AsyncGenerator[str, None],
        on_close: Sequence[Callable[[], Any]],
        headers: Mapping[str, str],
        heartbeat_s: float,
    ) -> None:
        super().__init__(events, media_type="text/event-stream", headers=STREAM_HEADERS | dict(headers))
        self._events = events
        self._heartbeat_s = heartbeat_s
        self._on_close = on_close

    async def stream_response(self, send: Any) -> None:
        """Sends the head and the events, as StreamingResponse does, with heartbeats."""

        def send_text(text: str) -> Awaitable[None]:
            sending: Awaitable[None] = send({"type": "http.response.body", "body": text.encode(), "more_body": True})
            return sending

        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send_with_heartbeats(self._events, send_text, self._heartbeat_s)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            try:
                await self._events.aclose()
            finally:
                for close in self._on_close:
                    if inspect.isawaitable(result := close()):
                        await result


async def server_sent_events(chunks: ClosableStream[BaseModel | str]) -> AsyncGenerator[str, None]:
    """Chunks as events, ended by DONE_EVENT; the events of a response end with their own last one, as OpenAI's do.

    A chunk that is a text is JSON already, made by chunk_json or in its form.
    An error in mid-stream becomes an error event without DONE_EVENT: an incomplete answer never looks complete.
    Closes `chunks` at the end.
    """
    named_events = 0
    try:
        async for chunk in chunks:
            if isinstance(chunk, str):
                yield f"data: {chunk}\n\n"
            elif isinstance(chunk, ResponseEvent):
                named_events += 1
                yield _encode_named(chunk)
            else:
                yield f"data: {chunk_json(chunk)}\n\n"
    except RequestError as e:
        logger.warning("stream ended by %s: %s", type(e).__name__, e.message)
        yield error_event(e) if not named_events else response_error_event(e, named_events)
        return
    finally:
        await chunks.aclose()
    if not named_events:
        yield DONE_EVENT


def _encode_named(event: ResponseEvent) -> str:
    # With nulls: OpenAI's response objects have them, and clients of typed languages expect the fields.
    return f"event: {event.type}\ndata: {event.model_dump_json()}\n\n"


def chunk_json(chunk: BaseModel) -> str:
    """A chunk as JSON. A usage that was not asked for has no field; where it was, it is null until the last chunk."""
    return chunk.model_dump_json(exclude=None if "usage" in chunk.model_fields_set else _USAGE)


def error_event(error: RequestError) -> str:
    """The error as the last event of an incomplete stream."""
    return f"data: {json.dumps(error_body(error))}\n\n"


def response_error_event(error: RequestError, sequence_number: int) -> str:
    """The error as the last event of an incomplete response."""
    content = {"type": "error", "code": error.code, "message": error.message, "param": error.param}
    return f"event: error\ndata: {json.dumps(content | {'sequence_number': sequence_number})}\n\n"


def ends_stream(text: str) -> bool:
    """Whether one or more whole events are the last ones of a complete stream."""
    last = text.removesuffix("\n\n").rpartition("\n\n")[2]
    return text.endswith(DONE_EVENT) or last.startswith(LAST_RESPONSE_EVENTS)
