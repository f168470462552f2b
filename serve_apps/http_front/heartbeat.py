"""Comments in a stream of server-sent events, so that proxies and clients see that the server is still working."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

HEARTBEAT = ": keep-alive\n"
"""A comment, which clients of server-sent events skip. No empty line follows it: openai-go before its pull request 621
took the empty line for the end of an event, and failed because that event had no data."""


async def send_with_heartbeats(
    texts: AsyncGenerator[str, None], send: Callable[[str], Awaitable[None]], interval_s: float
) -> None:
    """Sends a heartbeat at once; then the texts, with a heartbeat whenever none was sent for `interval_s` seconds.

    Raises what `texts` and `send` raise, and closes `texts` at the end.
    """
    await send(HEARTBEAT)
    sender = _Sender(send, interval_s)
    beats = asyncio.create_task(sender.beat())
    texts_task, is_over = asyncio.current_task(), False

    def end_texts(beats: asyncio.Task[None]) -> None:
        if texts_task is not None and not is_over and not beats.cancelled():
            texts_task.cancel()

    beats.add_done_callback(end_texts)
    try:
        async for text in texts:
            await sender.send_text(text)
    except asyncio.CancelledError:
        if beats.done() and not beats.cancelled() and texts_task is not None and texts_task.uncancel() == 0:
            await beats  # raises what ended the heartbeats
        raise
    finally:
        # Heartbeats may have ended already with the callback still to run: it must not cancel what follows.
        is_over = True
        beats.cancel()
        (ending,) = await asyncio.gather(beats, return_exceptions=True)
        await texts.aclose()
    if isinstance(ending, Exception):
        raise ending


class _Sender:
    """Sends one thing at a time: the texts, straight from their task, and a heartbeat where they pause."""

    def __init__(self, send: Callable[[str], Awaitable[None]], interval_s: float) -> None:
        self._send = send
        self._interval_s = interval_s
        self._loop = asyncio.get_running_loop()
        self._sent_at = self._loop.time()
        self._is_sending_text = False
        self._beating = asyncio.Lock()

    async def send_text(self, text: str) -> None:
        """Sends the text, after a heartbeat that is on its way. A lock taken for each text would cost more."""
        if self._beating.locked():
            async with self._beating:
                pass
        self._is_sending_text = True
        await self._send(text)
        self._is_sending_text = False
        self._sent_at = self._loop.time()

    async def beat(self) -> None:
        """Sends heartbeats until it is cancelled or `send` fails."""
        while True:
            due_in_s = self._sent_at + self._interval_s - self._loop.time()
            if self._is_sending_text or due_in_s > 0:
                await asyncio.sleep(max(due_in_s, 0) or self._interval_s)
                continue
            async with self._beating:
                await self._send(HEARTBEAT)
            self._sent_at = self._loop.time()
