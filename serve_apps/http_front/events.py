"""Server-sent events: chunks as events, and the response that closes the engine's stream when the client leaves."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from tuneyard.api.wire.errors import error_body
from tuneyard.core.errors import RequestError

logger = logging.getLogger(__name__)

DONE_EVENT = "data: [DONE]\n\n"
"""The last event of a complete stream."""

STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""Keep proxies from caching and buffering events; X-Accel-Buffering is nginx's."""

ItemOut = TypeVar("ItemOut", covariant=True)


class ClosableStream(Protocol[ItemOut]):
    """An asynchronous iterator that must be closed."""

    def __aiter__(self) -> AsyncIterator[ItemOut]: ...

    async def aclose(self) -> None: ...


class EventStreamResponse(StreamingResponse):
    """Sends events until they end or the client disconnects; then closes `events` and calls `on_close` in order.

    This happens even if no event was ever read, for which a `finally` inside the generator would not do: a generator
    that was never started does not run it.
    """

    def __init__(
        self, events: AsyncGenerator[str, None], on_close: Sequence[Callable[[], Any]], headers: Mapping[str, str]
    ) -> None:
        super().__init__(events, media_type="text/event-stream", headers=STREAM_HEADERS | dict(headers))
        self._events = events
        self._on_close = on_close

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._events.aclose()
            for close in self._on_close:
                if inspect.isawaitable(result := close()):
                    await result


async def server_sent_events(chunks: ClosableStream[BaseModel]) -> AsyncGenerator[str, None]:
    """Chunks as events, ended by DONE_EVENT.

    An error in mid-stream becomes an error event without DONE_EVENT: an incomplete answer never looks complete.
    Closes `chunks` at the end.
    """
    try:
        async for chunk in chunks:
            yield f"data: {chunk.model_dump_json(exclude_none=True)}\n\n"
    except RequestError as e:
        logger.warning("stream ended by %s: %s", type(e).__name__, e.message)
        yield error_event(e)
        return
    finally:
        await chunks.aclose()
    yield DONE_EVENT


def error_event(error: RequestError) -> str:
    """The error as the last event of an incomplete stream."""
    return f"data: {json.dumps(error_body(error))}\n\n"
