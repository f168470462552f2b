"""ModelLane: the way to one model for the requests of all batches, fair between their owners."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from serve_apps.platform_app.batches.execution.request_window import RequestWindow

MAX_BYTES = 64 * 2**20
"""Bytes of the requests that are sent at the same time. Decoded, they take several times the memory."""


@dataclass(eq=False, slots=True)
class _Waiting:
    bytes: int
    turn: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class ModelLane:
    """Requests wait in it until its window and its memory have room. Owners take turns, and each one's requests keep
    their order. `now` gives seconds."""

    def __init__(
        self, max_requests: int, max_bytes: int = MAX_BYTES, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._window = RequestWindow(max_requests)
        self._max_bytes = max_bytes
        self._now = now
        self._running = 0
        self._bytes = 0
        self._waiting: OrderedDict[str, deque[_Waiting]] = OrderedDict()
        """By owner; the one whose turn is next comes first."""
        self._missing_since: float | None = None

    @property
    def running(self) -> int:
        """Requests that have a place."""
        return self._running

    @contextlib.asynccontextmanager
    async def place(self, owner: str, size: int) -> AsyncIterator[None]:
        """A place for a request of `size` bytes. A request larger than all memory has it when it is alone."""
        await self.take(owner, size)
        try:
            yield
        finally:
            self.give_back(size)

    async def take(self, owner: str, size: int) -> None:
        """Returns when the request has a place; see `give_back`."""
        own = _Waiting(size)
        self._waiting.setdefault(owner, deque()).append(own)
        self._start_waiting()
        try:
            await own.turn
        except asyncio.CancelledError:
            if own.turn.done() and not own.turn.cancelled():
                self.give_back(size)
            else:
                self._remove(owner, own)
            raise

    def give_back(self, size: int) -> None:
        """The request has its result."""
        self._running -= 1
        self._bytes -= size
        self._start_waiting()

    def record_answer(self) -> None:
        """The model answered a request."""
        self._missing_since = None
        self._window.record_answer()
        self._start_waiting()

    def record_refusal(self) -> None:
        """The model had no idle capacity for a request."""
        self._missing_since = None
        self._window.record_refusal(self._now())

    def record_missing(self) -> float:
        """The model was not found. Seconds since it has been missing."""
        self._missing_since = self._missing_since or self._now()
        return self._now() - self._missing_since

    def _start_waiting(self) -> None:
        while self._waiting and self._running < self._window.size:
            owner, queue = next(iter(self._waiting.items()))
            if self._running and self._bytes + queue[0].bytes > self._max_bytes:
                return
            started = queue.popleft()
            self._waiting.move_to_end(owner)
            if not queue:
                del self._waiting[owner]
            self._running += 1
            self._bytes += started.bytes
            started.turn.set_result(None)

    def _remove(self, owner: str, waiting: _Waiting) -> None:
        queue = self._waiting[owner]
        queue.remove(waiting)
        if not queue:
            del self._waiting[owner]
