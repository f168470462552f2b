"""LoopWatchdog: how long an event loop stands still."""

from __future__ import annotations

import asyncio
import contextlib
import time
from types import TracebackType
from typing import Self

TICK_S = 0.001


class LoopWatchdog:
    """Async context manager that records the longest pause of the running event loop inside it.

    `cpu_pause_s` is the CPU time that this process used between two turns of the loop: unlike `wall_pause_s` it does
    not grow with the load of the machine. Both include other threads that hold the interpreter lock.
    """

    def __init__(self) -> None:
        self.cpu_pause_s = 0.0
        self.wall_pause_s = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        await asyncio.sleep(0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.sleep(2 * TICK_S)  # the last pause ends with a turn of the loop
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _watch(self) -> None:
        while True:
            cpu, wall = time.process_time(), time.monotonic()
            await asyncio.sleep(TICK_S)
            self.cpu_pause_s = max(self.cpu_pause_s, time.process_time() - cpu)
            self.wall_pause_s = max(self.wall_pause_s, time.monotonic() - wall - TICK_S)
