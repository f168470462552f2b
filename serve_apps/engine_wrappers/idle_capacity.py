"""IdleCapacityEngine, which answers background requests only where live requests leave room."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

from serve_apps.engine_wrappers.wrapper import EngineWrapper
from serve_apps.engines.engine import GenerationRequest, InferenceEngine, TokenChunk
from tuneyard.core.errors import OverloadedError

PATIENCE_S = 1.0
"""Seconds that a live request waits for its first token before a background request is aborted to make room for it, and
then another one. A batch with a free place may still wait: for memory of the KV cache, or behind long prompts."""

PAUSE_S = 1.0
"""Seconds after an abort in which no background request starts. Otherwise, where live requests come and go, each gap
between two of them would start a background request that the next one aborts."""

NO_IDLE_CAPACITY = "no_idle_capacity"
"""`code` of the error with which a background request is refused or aborted. It may be sent again."""

_CALL: ContextVar[object | None] = ContextVar("background_call", default=None)
"""What the engine requests of one background call have in common; None in a live request."""


@contextlib.contextmanager
def in_background() -> Iterator[None]:
    """Requests to an IdleCapacityEngine that start inside this context are those of one background call."""
    token = _CALL.set(object())
    try:
        yield
    finally:
        _CALL.reset(token)


@dataclass(slots=True)
class _Patience:
    """The timer of a live request that has no token yet."""

    timer: asyncio.TimerHandle | None = None

    def end(self) -> None:
        """Ends it; further calls do nothing."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


@dataclass(eq=False, slots=True)
class _Background:
    """A background request that runs, or waits for its turn."""

    request_id: str
    call: object
    turn: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    is_aborted: bool = False


class IdleCapacityEngine(EngineWrapper):
    """Runs a background request while the engine has fewer than `capacity` requests, and never instead of a live one.

    Background requests wait in order of arrival; those of more than about a quarter of `capacity` calls are refused
    with OverloadedError. A live request that the engine has no place for ends the youngest background request with the
    same error, because it loses the least work. Make it the outermost wrapper: it must see all requests, and waiting
    for idle capacity is no time of the engine.
    """

    def __init__(
        self,
        engine: InferenceEngine,
        capacity: int,
        *,
        patience_s: float = PATIENCE_S,
        pause_s: float = PAUSE_S,
    ) -> None:
        super().__init__(engine)
        self._capacity = capacity
        self._patience_s = patience_s
        self._pause_s = pause_s
        self._pause: asyncio.TimerHandle | None = None
        self._max_waiting_calls = max(4, capacity // 4)
        self._live = 0
        self._running: list[_Background] = []
        """Oldest first."""
        self._waiting: deque[_Background] = deque()
        self._aborting: set[asyncio.Task[None]] = set()

    def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenChunk, None]:
        """See InferenceEngine; the context of this call decides whether the request is a background one."""
        call = _CALL.get()
        return self._answer_live(request) if call is None else self._answer_background(request, call)

    async def _answer_live(self, request: GenerationRequest) -> AsyncGenerator[TokenChunk, None]:
        self._live += 1
        if self._live + len(self._staying()) > self._capacity:
            self._abort_youngest()
        patience = _Patience()
        self._renew(patience)
        try:
            async with contextlib.aclosing(self._engine.generate(request)) as chunks:
                async for chunk in chunks:
                    if chunk.token_ids:
                        patience.end()
                    yield chunk
        finally:
            patience.end()
            self._live -= 1
            self._start_waiting()

    def _renew(self, patience: _Patience) -> None:
        """Makes room for the live request in a while if it has no token by then, and so on."""

        def run_out() -> None:
            self._abort_youngest()
            self._renew(patience)

        patience.timer = asyncio.get_running_loop().call_later(self._patience_s, run_out)

    async def _answer_background(self, request: GenerationRequest, call: object) -> AsyncGenerator[TokenChunk, None]:
        own = _Background(request.request_id, call)
        self._enqueue(own)
        try:
            await own.turn
            if own.is_aborted:
                raise _no_capacity("was aborted, because live requests took its place")
            async with contextlib.aclosing(self._engine.generate(request)) as chunks:
                async for chunk in chunks:
                    # Aborted before the engine knew it: then this stream still runs, and ends by being closed.
                    if own.is_aborted and chunk.finish_reason in (None, "abort"):
                        raise _no_capacity("was aborted, because live requests took its place")
                    yield chunk
        finally:
            (self._running if own in self._running else self._waiting).remove(own)
            self._start_waiting()

    def _enqueue(self, own: _Background) -> None:
        """Raises OverloadedError if it would be one call too many. A call that has begun has its place."""
        calls = {waiting.call for waiting in self._waiting}
        is_new = all(own.call is not known.call for known in (*self._waiting, *self._running))
        if is_new and len(calls) >= self._max_waiting_calls:
            raise _no_capacity(f"is refused: live requests, and {len(calls)} background requests before it, come first")
        self._waiting.append(own)
        self._start_waiting()

    def _start_waiting(self) -> None:
        while self._pause is None and self._waiting and self._live + len(self._running) < self._capacity:
            started = self._waiting.popleft()
            self._running.append(started)
            started.turn.set_result(None)

    def _staying(self) -> list[_Background]:
        """The running background requests that are not being aborted."""
        return [request for request in self._running if not request.is_aborted]

    def _abort_youngest(self) -> None:
        if staying := self._staying():
            self._begin_pause()
            staying[-1].is_aborted = True
            # The engine does not know the request yet if its turn has come in this moment.
            task = asyncio.ensure_future(self._engine.abort(staying[-1].request_id))
            self._aborting.add(task)
            task.add_done_callback(self._aborting.discard)

    def _begin_pause(self) -> None:
        def end() -> None:
            self._pause = None
            self._start_waiting()

        if self._pause is not None:
            self._pause.cancel()
        self._pause = asyncio.get_running_loop().call_later(self._pause_s, end)


def _no_capacity(what_happened: str) -> OverloadedError:
    return OverloadedError(
        f"The background request {what_happened}. Retry after {OverloadedError.retry_after_s} s.",
        code=NO_IDLE_CAPACITY,
    )
