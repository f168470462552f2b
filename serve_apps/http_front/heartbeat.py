"""Comments in a stream of server-sent events, so that proxies and clients see that the server is still working."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

HEARTBEAT = ": keep-alive\n"
"""A comment, which clients of server-sent events skip. No empty line follows it: openai-go before its pull request 621
took the empty line for the end of an event, and failed because that event had no data."""


async def with_heartbeats(texts: AsyncGenerator[str, None], interval_s: float) -> AsyncGenerator[str, None]:
    """A heartbeat at once; then the texts, with a heartbeat whenever none came for `interval_s` seconds.

    Raises what `texts` raises, and closes it at the end.
    """
    queue: asyncio.Queue[str | _End] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    last_text_at = loop.time()
    timer: asyncio.TimerHandle | None = None

    def beat() -> None:
        """Sends a heartbeat if it is due, and comes again. A timer for each text would cost more than the text."""
        nonlocal timer, last_text_at
        now = loop.time()
        if now - last_text_at >= interval_s:
            queue.put_nowait(HEARTBEAT)
            last_text_at = now
        timer = loop.call_at(last_text_at + interval_s, beat)

    beat()
    reader = asyncio.create_task(_read_into(queue, texts))
    try:
        yield HEARTBEAT
        while not isinstance(item := await queue.get(), _End):
            last_text_at = loop.time()
            yield item
        if item.error is not None:
            raise item.error
    finally:
        if timer is not None:
            timer.cancel()
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        await texts.aclose()


class _End:
    """The last item of the queue, with the error that ended the texts."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error


async def _read_into(queue: asyncio.Queue[str | _End], texts: AsyncGenerator[str, None]) -> None:
    try:
        async for text in texts:
            queue.put_nowait(text)
        queue.put_nowait(_End())
    except Exception as e:  # noqa: BLE001  # every error is passed on to the reader of the queue
        queue.put_nowait(_End(e))
