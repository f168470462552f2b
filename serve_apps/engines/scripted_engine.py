"""A scripted engine: canned token streams, for tests and UI work. It computes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Literal

from serve_apps.engines.engine import EngineStats, GenerationRequest, TokenChunk
from serve_apps.engines.running_requests import Deliver, RunningRequests, check_request
from tuneyard.core.errors import ConfigError


class ScriptedEngine:
    """Answers each request with the next reply of the script, one token per chunk. See InferenceEngine.

    `crash_after_tokens` kills the engine once it has given so many tokens in all. `options`: what it accepts without
    acting on it, for tests of what lies above an engine.
    """

    def __init__(
        self,
        script: Sequence[Sequence[int]],
        token_interval_s: float = 0.0,
        max_model_len: int = 2048,
        crash_after_tokens: int | None = None,
        options: frozenset[str] = frozenset(),
    ) -> None:
        if not script or not all(script):
            raise ConfigError("engine.script: a scripted engine needs at least one reply, and no reply may be empty.")
        self._replies = itertools.cycle([tuple(reply) for reply in script])
        self._interval_s = token_interval_s
        self._max_model_len = max_model_len
        self._tokens_left = crash_after_tokens
        self._options = options
        self._requests = RunningRequests()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def max_model_len(self) -> int:
        return self._max_model_len

    async def start(self) -> None:
        """Nothing to load."""

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenChunk, None]:
        check_request(request, self._max_model_len, options=self._options)
        reply = next(self._replies)

        def submit(deliver: Deliver) -> None:
            self._tasks[request.request_id] = asyncio.create_task(self._play(request, reply, deliver))

        chunks = self._requests.run(request, submit, lambda: self._forget(request.request_id))
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def abort(self, request_id: str) -> None:
        self._requests.abort(request_id)

    def stats(self) -> EngineStats:
        return EngineStats(requests=len(self._tasks), kv_cache_usage=0.0)

    async def check_health(self) -> None:
        self._requests.check_alive()

    async def shutdown(self) -> None:
        self._requests.die("The engine was shut down.")
        for request_id in list(self._tasks):
            self._forget(request_id)

    async def _play(self, request: GenerationRequest, reply: tuple[int, ...], deliver: Deliver) -> None:
        """The reply, over and over until a stop token or max_tokens ends it."""
        started = time.monotonic()
        for count, token in enumerate(itertools.cycle(reply), start=1):
            # By the clock, so that a late token does not delay those after it.
            await asyncio.sleep(max(0.0, started + count * self._interval_s - time.monotonic()))
            if self._tokens_left is not None:
                self._tokens_left -= 1
                if self._tokens_left < 0:
                    self._tasks.pop(request.request_id, None)
                    self._requests.die("The scripted engine crashed, as it was told to.")
                    return
            reason: Literal["stop", "length"] | None = None
            if token in request.stop_token_ids:
                reason = "stop"
            elif count == request.sampling.max_tokens:
                reason = "length"
            deliver(TokenChunk((token,), reason))
            if reason is not None:
                self._tasks.pop(request.request_id, None)
                return

    def _forget(self, request_id: str) -> None:
        task = self._tasks.pop(request_id, None)
        if task is not None:
            task.cancel()
