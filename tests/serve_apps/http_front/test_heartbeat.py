"""Comments in streams: one at once, one in every pause, and the source is closed however the sending ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.http_front.heartbeat import HEARTBEAT, send_with_heartbeats
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


class Client:
    """Keeps what was sent; it can be slow, and can leave after some texts."""

    def __init__(self, slow_s: float = 0, leaves_after: int | None = None) -> None:
        self.received: list[str] = []
        self._slow_s = slow_s
        self._leaves_after = leaves_after
        self._is_receiving = False

    async def send(self, text: str) -> None:
        assert not self._is_receiving, "two sendings at once"
        if len(self.received) == self._leaves_after:
            raise OSError("the client left")
        self._is_receiving = True
        await asyncio.sleep(self._slow_s)
        self.received.append(text)
        self._is_receiving = False

    async def receives(self, count: int) -> None:
        while len(self.received) < count:
            await asyncio.sleep(0.001)


async def test_a_heartbeat_comes_at_once_and_in_every_pause() -> None:
    source, client = Source(), Client()
    sending = asyncio.create_task(send_with_heartbeats(source.texts(), client.send, 0.01))
    await client.receives(3)
    assert client.received[:3] == [HEARTBEAT] * 3
    source.queue.put_nowait("data: x\n\n")
    await client.receives(len(client.received) + 2)
    assert "data: x\n\n" in client.received
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert source.is_closed


async def test_no_heartbeat_comes_while_texts_do() -> None:
    async def texts() -> AsyncGenerator[str, None]:
        for _ in range(50):
            await asyncio.sleep(0)
            yield "data: x\n\n"

    client = Client()
    await send_with_heartbeats(texts(), client.send, 60)
    assert client.received == [HEARTBEAT] + ["data: x\n\n"] * 50


async def test_a_heartbeat_waits_for_a_client_that_is_slow() -> None:
    source, client = Source(), Client(slow_s=0.02)
    for _ in range(5):
        source.queue.put_nowait("data: x\n\n")
    source.queue.put_nowait(None)
    with pytest.raises(EngineError, match="dead"):
        await send_with_heartbeats(source.texts(), client.send, 0.001)
    assert [text for text in client.received if text != HEARTBEAT] == ["data: x\n\n"] * 5


async def test_an_error_passes_through() -> None:
    source = Source()
    source.queue.put_nowait(None)
    with pytest.raises(EngineError, match="dead"):
        await send_with_heartbeats(source.texts(), Client().send, 5)
    assert source.is_closed


@pytest.mark.parametrize("leaves_after", [1, 2])
async def test_a_client_that_left_is_noticed_at_a_heartbeat(leaves_after: int) -> None:
    source = Source()
    with pytest.raises(OSError, match="the client left"):
        await send_with_heartbeats(source.texts(), Client(leaves_after=leaves_after).send, 0.001)
    assert source.is_closed
    await asyncio.sleep(0)  # raises if the task were still being cancelled


@given(st.lists(st.text(st.characters(codec="utf-8"))))
@settings(max_examples=50, deadline=None)
def test_every_text_passes_in_order(texts: list[str]) -> None:
    async def source() -> AsyncGenerator[str, None]:
        for text in texts:
            yield text

    client = Client()
    asyncio.run(send_with_heartbeats(source(), client.send, 60))
    assert client.received == [HEARTBEAT, *texts]


async def test_a_client_that_left_as_the_texts_end_is_no_cancellation() -> None:
    """The heartbeat fails and the texts end in one step of the event loop."""
    sent: asyncio.Queue[str] = asyncio.Queue()
    leaves, ends = asyncio.Event(), asyncio.Event()

    async def send(text: str) -> None:
        sent.put_nowait(text)
        if sent.qsize() > 1:
            await leaves.wait()
            raise OSError("the client left")

    async def texts() -> AsyncGenerator[str, None]:
        await ends.wait()
        return
        yield

    sending = asyncio.create_task(send_with_heartbeats(texts(), send, 0.001))
    while sent.qsize() < 2:
        await asyncio.sleep(0.001)
    leaves.set()
    ends.set()
    with pytest.raises(OSError, match="the client left"):
        await sending
    await asyncio.sleep(0)  # raises if the task were still being cancelled
