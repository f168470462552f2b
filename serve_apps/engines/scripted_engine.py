"""An engine that plays scripted replies, for tests and work on the UI. It computes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Literal

from serve_apps.engines.engine import EngineStats, GenerationRequest, TokenChunk
from serve_apps.engines.request_checks import check_request
from serve_apps.engines.running_requests import ChunkCallback, RunningRequests
from serve_apps.engines.stop_tokens import ends_with_stop_token
from tuneyard.core.errors import ConfigError


class ScriptedEngine:
    """Answers each request with the next reply of `script`, one token per chunk. See InferenceEngine.

    `token_interval_s` is the time between tokens. After `crash_after_tokens` tokens over all requests the engine fails;
    None: never. `options` are the OPTIONS that it accepts and ignores, for tests of the code above an engine. Raises
    ConfigError if the script or one of its replies is empty.
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
        self._tokens_until_crash = crash_after_tokens
        self._options = options
        self._requests = RunningRequests()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def max_model_len(self) -> int:
        return self._max_model_len

    async def start(self) -> None:
        """Does nothing: there is no model to load."""

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenChunk, None]:
        check_request(request, self._max_model_len, options=self._options)
        reply = self.choose_reply(request)

        def submit(on_chunk: ChunkCallback) -> None:
            self._tasks[request.request_id] = asyncio.create_task(self._play(request, reply, on_chunk))

        chunks = self._requests.run(request, submit, lambda: self._cancel(request.request_id))
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    def choose_reply(self, request: GenerationRequest) -> Sequence[int]:  # noqa: ARG002
        """The token ids of the reply: the script's next one. Tests override it to let the reply follow the prompt."""
        return next(self._replies)

    async def abort(self, request_id: str) -> None:
        self._requests.abort(request_id)

    def stats(self) -> EngineStats:
        return EngineStats(requests=len(self._tasks), kv_cache_usage=0.0)

    async def check_health(self) -> None:
        self._requests.check_alive()

    async def shutdown(self) -> None:
        self._requests.fail_all("The engine was shut down.")
        for request_id in list(self._tasks):
            self._cancel(request_id)

    async def _play(self, request: GenerationRequest, reply: Sequence[int], on_chunk: ChunkCallback) -> None:
        """Repeats the reply until a stop token or max_tokens ends it."""
        started = time.monotonic()
        for count, token in enumerate(itertools.cycle(reply), start=1):
            # Times are relative to the start, so that a late token does not delay the tokens after it.
            await asyncio.sleep(max(0.0, started + count * self._interval_s - time.monotonic()))
            if self._tokens_until_crash is not None:
                self._tokens_until_crash -= 1
                if self._tokens_until_crash < 0:
                    self._tasks.pop(request.request_id, None)
                    self._requests.fail_all("The scripted engine crashed after `crash_after_tokens` tokens.")
                    return
            reason: Literal["stop", "length"] | None = None
            if ends_with_stop_token(request, (token,)):
                reason = "stop"
            elif count == request.sampling.max_tokens:
                reason = "length"
            on_chunk(TokenChunk((token,), reason))
            if reason is not None:
                self._tasks.pop(request.request_id, None)
                return

    def _cancel(self, request_id: str) -> None:
        task = self._tasks.pop(request_id, None)
        if task is not None:
            task.cancel()
