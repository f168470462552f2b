"""Comments in streams: one at once, one in every pause, and the source is closed however the reading ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.http_front.heartbeat import HEARTBEAT, with_heartbeats
from tuneyard.core.errors import EngineError


class Source:
    """Texts that come when the test lets them."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[str | None] = asyncio.Queue()
        self.is_closed = False

    async def texts(self) -> AsyncGenerator[str, None]:
        try:
            while (text := await self.queue.get()) is not None:
                yield text
            raise EngineError("dead")
        finally:
            self.is_closed = True


async def test_a_heartbeat_comes_at_once_and_in_every_pause() -> None:
    source = Source()
    stream = with_heartbeats(source.texts(), 0.01)
    assert [await anext(stream) for _ in range(3)] == [HEARTBEAT] * 3
    source.queue.put_nowait("data: x\n\n")
    while (text := await anext(stream)) == HEARTBEAT:
        pass
    assert text == "data: x\n\n"
    await stream.aclose()
    assert source.is_closed


async def test_an_error_passes_through() -> None:
    source = Source()
    source.queue.put_nowait(None)
    with pytest.raises(EngineError, match="dead"):
        _ = [text async for text in with_heartbeats(source.texts(), 5)]
    assert source.is_closed


@given(st.lists(st.text()))
@settings(max_examples=50, deadline=None)
def test_every_text_passes_in_order(texts: list[str]) -> None:
    async def source() -> AsyncGenerator[str, None]:
        for text in texts:
            yield text

    async def collect() -> list[str]:
        return [text async for text in with_heartbeats(source(), 60)]

    assert asyncio.run(collect()) == [HEARTBEAT, *texts]
