"""LoopWatchdog: how long an event loop stands still."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from types import TracebackType
from typing import Self

TICK_S = 0.001

LOCKING_THREADS = ("json-decoder", "worker ")
"""Beginnings of the names of threads that decode JSON or pickle jobs: they hold the interpreter lock, and the loop."""


class LoopWatchdog:
    """Async context manager that records the longest pause of the running event loop inside it.

    `own_pause_s` is the CPU time of the loop's thread between two turns: it does not depend on the load of the machine,
    nor on a client in another thread. `cpu_pause_s` includes that of LOCKING_THREADS, more of which fits between two
    turns on a loaded machine. `wall_pause_s` is what passes on the clock.
    """

    def __init__(self) -> None:
        self.own_pause_s = self.cpu_pause_s = self.wall_pause_s = 0.0
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

    def reset(self) -> None:
        """Forgets the pauses so far."""
        self.own_pause_s = self.cpu_pause_s = self.wall_pause_s = 0.0

    async def _watch(self) -> None:
        while True:
            own, cpu, wall = time.thread_time(), _server_cpu_s(), time.monotonic()
            await asyncio.sleep(TICK_S)
            self.own_pause_s = max(self.own_pause_s, time.thread_time() - own)
            self.cpu_pause_s = max(self.cpu_pause_s, _server_cpu_s() - cpu)
            self.wall_pause_s = max(self.wall_pause_s, time.monotonic() - wall - TICK_S)


def _server_cpu_s() -> float:
    """CPU seconds of this thread and of LOCKING_THREADS."""
    total = time.thread_time()
    for thread in threading.enumerate():
        if thread.name.startswith(LOCKING_THREADS) and thread.ident is not None:
            with contextlib.suppress(OSError):  # it has just ended
                total += time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    return total
