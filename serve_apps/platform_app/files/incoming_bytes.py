"""IncomingBytes: bytes that arrive in pieces of any size, written to the content store in blocks by a thread."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from serve_apps.platform_app.files.content_store import BLOCK_BYTES, ContentStore, IncomingContent

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class IncomingBytes:
    """Bytes that are received under `key`, of which at most one block is in memory. It is used by one task.

    All methods raise StorageFullError and StorageError.
    """

    def __init__(self, content: ContentStore, key: str, *, with_md5: bool = False) -> None:
        self._content = content
        self._key = key
        self._incoming: IncomingContent | None = None
        self._running: asyncio.Future[Any] | None = None
        self._buffer = bytearray()
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False) if with_md5 else None
        self.size = 0
        """Bytes so far."""
        self._longest_line = self._line = 0

    @property
    def sha256(self) -> str:
        """SHA-256 of everything that was written before the last `flush`, in hexadecimal digits."""
        return self._sha256.hexdigest()

    @property
    def md5(self) -> str:
        """As sha256."""
        assert self._md5 is not None
        return self._md5.hexdigest()

    @property
    def longest_line(self) -> int:
        """Bytes of the longest line; of one that is shorter than two blocks it may be less."""
        return max(self._longest_line, self._line)

    async def write(self, data: bytes) -> None:
        """Appends."""
        self._buffer += data
        self.size += len(data)
        if len(self._buffer) >= BLOCK_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Hands everything to the content store."""
        data, self._buffer = bytes(self._buffer), bytearray()
        await self._run(self._append, data)

    async def head(self, size: int) -> bytes:
        """The first bytes."""
        await self.flush()
        assert self._incoming is not None
        return await self._run(self._incoming.head, size)

    async def publish(self, name: str) -> None:
        """Makes the bytes the content `name`; durable when this returns."""
        await self.flush()
        assert self._incoming is not None
        await self._run(self._incoming.publish, name)

    async def discard(self) -> None:
        """Deletes the bytes, unless they are published."""
        if self._running is not None:
            await asyncio.gather(self._running, return_exceptions=True)
        if self._incoming is not None:
            await self._run(self._incoming.discard)

    async def _run(
        self, call: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """The result of a call in a thread. If the task is cancelled the call goes on, and `discard` waits for it."""
        running = asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs))
        self._running = running
        return await asyncio.shield(running)

    def _append(self, data: bytes) -> None:
        if self._incoming is None:
            self._incoming = self._content.begin(self._key)
        self._sha256.update(data)
        if self._md5 is not None:
            self._md5.update(data)
        for start in range(0, len(data), BLOCK_BYTES):
            self._measure_lines(data[start : start + BLOCK_BYTES])
        self._incoming.write(data)

    def _measure_lines(self, block: bytes) -> None:
        if (end := block.find(b"\n")) < 0:
            self._line += len(block)
        else:
            self._longest_line = max(self._longest_line, self._line + end)
            self._line = len(block) - block.rfind(b"\n") - 1
