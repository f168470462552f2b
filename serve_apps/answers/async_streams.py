"""Asynchronous streams: merge several, batch a fast one, close a source that was never read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")

BATCH_INTERVAL_S = 0.01
"""The events of a fast stream are joined for this long: one call over a Serve handle costs as much as ten tokens."""


async def merge_streams(streams: Sequence[AsyncGenerator[Item, None]]) -> AsyncGenerator[Item, None]:
    """The items of all streams, each as soon as it is available.

    The first error of a stream ends the merged stream. All streams are closed when it ends or is closed.
    """
    queue: asyncio.Queue[Item | _End] = asyncio.Queue()
    readers = [asyncio.create_task(_read_into(queue, stream)) for stream in streams]
    open_streams = len(readers)
    try:
        while open_streams:
            item = await queue.get()
            if not isinstance(item, _End):
                yield item
            elif item.error is not None:
                raise item.error
            else:
                open_streams -= 1
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        for stream in streams:
            await stream.aclose()


async def read_first(stream: AsyncGenerator[Item, None]) -> Item:
    """The first item of a stream that is not empty. Closes the stream if it fails, or if the waiting is cancelled."""
    try:
        return await anext(stream)
    except BaseException:
        await stream.aclose()
        raise


async def batch_texts(
    texts: AsyncGenerator[str, None], interval_s: float = BATCH_INTERVAL_S
) -> AsyncGenerator[str, None]:
    """The same text in at most one piece per `interval_s`; a slow stream's pieces pass unchanged and without delay."""
    queue: asyncio.Queue[str | _End] = asyncio.Queue()
    reader = asyncio.create_task(_read_into(queue, texts))
    last_yield_at = 0.0
    try:
        has_ended = False
        while not has_ended:
            items = [await queue.get()]
            if (remaining_s := last_yield_at + interval_s - time.monotonic()) > 0:
                await asyncio.sleep(remaining_s)
            while not queue.empty():
                items.append(queue.get_nowait())
            text = "".join(item for item in items if isinstance(item, str))
            if text:
                last_yield_at = time.monotonic()
                yield text
            end = items[-1]
            if isinstance(end, _End):
                has_ended = True
                if end.error is not None:
                    raise end.error
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        await texts.aclose()


@dataclass(frozen=True, slots=True)
class _End:
    """The last item in the queue of a stream, with the error that ended the stream."""

    error: Exception | None = None


async def _read_into(queue: asyncio.Queue[Item | _End], stream: AsyncGenerator[Item, None]) -> None:
    """Puts the stream's items into the queue, and an _End after the last one."""
    try:
        async for item in stream:
            queue.put_nowait(item)
        queue.put_nowait(_End())
    except Exception as e:  # noqa: BLE001  # every error is passed on to the reader of the queue
        queue.put_nowait(_End(e))


class SourceClosingStream(Generic[Item]):
    """A stream made from a `source`: `aclose` closes both, even if nothing was ever read.

    A generator that was never started does not run its `finally`, so it could not close the source itself.
    """

    def __init__(
        self, stream: AsyncGenerator[Item, None], source: AsyncGenerator[Any, None] | SourceClosingStream[Any]
    ) -> None:
        self._stream = stream
        self._source = source

    def __aiter__(self) -> AsyncIterator[Item]:
        return self

    def __anext__(self) -> Awaitable[Item]:
        return self._stream.__anext__()

    async def aclose(self) -> None:
        await self._stream.aclose()
        await self._source.aclose()
