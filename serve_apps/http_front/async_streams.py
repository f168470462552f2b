"""Asynchronous streams: several read as one, a fast one read in larger pieces, one bound to its source."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")

FLUSH_EVERY_S = 0.01
"""Events of a fast stream are sent together this often: a call over a handle costs what ten tokens do."""


async def merge(streams: Sequence[AsyncGenerator[Item, None]]) -> AsyncGenerator[Item, None]:
    """The items of all, each as soon as it comes. The first error ends all; closing this closes them."""
    queue: asyncio.Queue[Item | BaseException | None] = asyncio.Queue()
    readers = [asyncio.create_task(_pump(stream, queue)) for stream in streams]
    open_streams = len(readers)
    try:
        while open_streams:
            item = await queue.get()
            if item is None:
                open_streams -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        for stream in streams:
            await stream.aclose()


async def gathered(events: AsyncGenerator[str, None], every_s: float = FLUSH_EVERY_S) -> AsyncGenerator[str, None]:
    """Texts, each at once when they come slowly; several together when more come within `every_s`."""
    queue: asyncio.Queue[str | BaseException | None] = asyncio.Queue()
    reader = asyncio.create_task(_pump(events, queue))
    last = 0.0
    try:
        ended = False
        while not ended:
            items = [await queue.get()]
            if (early := last + every_s - time.monotonic()) > 0:
                await asyncio.sleep(early)
            while not queue.empty():
                items.append(queue.get_nowait())
            text = "".join(item for item in items if isinstance(item, str))
            if text:
                last = time.monotonic()
                yield text
            for item in items:
                if isinstance(item, BaseException):
                    raise item
                ended = ended or item is None
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        await events.aclose()


async def _pump(stream: AsyncGenerator[Item, None], queue: asyncio.Queue[Item | BaseException | None]) -> None:
    """Puts the items into the queue, then None, or the error that ended them."""
    try:
        async for item in stream:
            queue.put_nowait(item)
        queue.put_nowait(None)
    except Exception as e:  # noqa: BLE001  # carried to the reader, whatever it is
        queue.put_nowait(e)


class Bound(Generic[Item]):
    """A stream that was made out of another: closing it closes both, even when it was never read. A generator that was
    never started closes nothing by itself.
    """

    def __init__(self, stream: AsyncGenerator[Item, None], source: AsyncGenerator[Any, None]) -> None:
        self._stream = stream
        self._source = source

    def __aiter__(self) -> AsyncIterator[Item]:
        return self

    async def __anext__(self) -> Item:
        return await anext(self._stream)

    async def aclose(self) -> None:
        await self._stream.aclose()
        await self._source.aclose()
