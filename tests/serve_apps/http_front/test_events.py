"""Server-sent events: how chunks and a response's events end, whole or by an error."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from pydantic import BaseModel

from serve_apps.http_front.events import (
    DONE_EVENT,
    EventStreamResponse,
    ends_stream,
    response_error_event,
    server_sent_events,
)
from tuneyard.api.wire.responses.answer import Response
from tuneyard.api.wire.responses.events import LifecycleEvent
from tuneyard.core.errors import EngineError


class Chunk(BaseModel):
    """A chunk without a name."""

    text: str


def lifecycle(kind: str) -> LifecycleEvent:
    return LifecycleEvent.model_validate({"type": kind, "response": Response(id="resp_1", created_at=0, model="m")})


async def stream(*items: BaseModel, error: Exception | None = None) -> AsyncGenerator[BaseModel, None]:
    for item in items:
        yield item
    if error is not None:
        raise error


async def test_chunks_end_with_done() -> None:
    texts = [text async for text in server_sent_events(stream(Chunk(text="a")))]
    assert texts == ['data: {"text":"a"}\n\n', DONE_EVENT]
    assert ends_stream("".join(texts))


async def test_a_response_ends_with_its_own_last_event() -> None:
    events = stream(lifecycle("response.created"), lifecycle("response.completed"))
    text = "".join([text async for text in server_sent_events(events)])
    assert text.startswith("event: response.created\ndata: {")
    assert "[DONE]" not in text
    assert ends_stream(text)


async def test_an_error_ends_neither() -> None:
    error = EngineError("gone")
    chunks = "".join([text async for text in server_sent_events(stream(Chunk(text="a"), error=error))])
    assert json.loads(chunks.split("data: ")[-1])["error"]["message"] == "gone"
    events = "".join([text async for text in server_sent_events(stream(lifecycle("response.created"), error=error))])
    assert events.endswith(response_error_event(error, 1))
    assert json.loads(events.split("data: ")[-1])["sequence_number"] == 1
    assert not ends_stream(chunks)
    assert not ends_stream(events)


class UnclosableEvents:
    """One event, and an engine that fails when the stream is closed."""

    async def __aiter__(self) -> AsyncGenerator[str, None]:
        yield DONE_EVENT

    async def aclose(self) -> None:
        raise EngineError("gone")


async def test_a_stream_that_cannot_be_closed_still_frees_its_place() -> None:
    """Its place is that of the API key's `max_streams`."""
    closed: list[str] = []
    events: Any = UnclosableEvents()
    response = EventStreamResponse(events, [lambda: closed.append("grant")], {}, 60)

    async def send(_: Any) -> None:
        pass

    async def receive() -> Any:
        raise AssertionError("not read")

    with pytest.raises(EngineError):
        await response({"type": "http", "asgi": {"spec_version": "2.4"}}, receive, send)
    assert closed == ["grant"]
