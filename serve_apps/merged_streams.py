"""Several asynchronous streams read side by side, as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


async def merge(streams: Sequence[AsyncGenerator[Item, None]]) -> AsyncGenerator[Item, None]:
    """The items of all, each as soon as it comes. The first error ends all; closing this closes them."""
    queue: asyncio.Queue[Item | BaseException | None] = asyncio.Queue()

    async def read(stream: AsyncGenerator[Item, None]) -> None:
        try:
            async for item in stream:
                queue.put_nowait(item)
            queue.put_nowait(None)
        except Exception as e:  # noqa: BLE001  # carried to the reader, whatever it is
            queue.put_nowait(e)
        finally:
            await stream.aclose()

    readers = [asyncio.create_task(read(stream)) for stream in streams]
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
