"""Results as in TensorRT-LLM: one object per request, updated in each step, with the new tokens of the step."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any


class RequestError(RuntimeError):
    """The error raised when the request is failed."""


@dataclass(slots=True)
class Logprob:
    logprob: float
    rank: int | None = None


@dataclass(slots=True)
class Response:
    """The worker's output since the last response. `error` ends the request, `fatal` the engine."""

    token_ids: list[int]
    logprobs: list[dict[int, Logprob]] = field(default_factory=list)
    finish_reason: str | None = None
    trim: int = 0
    """Number of stop word tokens to remove."""

    error: str | None = None
    fatal: BaseException | None = None


@dataclass(slots=True)
class CompletionOutput:
    """The output so far; the diffs are those of the last step. Without a tokenizer there is no text."""

    index: int = 0
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[dict[int, Logprob]] = field(default_factory=list)
    finish_reason: str | None = None
    _last_tokens: int = 0
    _last_logprobs: int = 0

    @property
    def token_ids_diff(self) -> list[int]:
        return self.token_ids[self._last_tokens :]

    @property
    def logprobs_diff(self) -> list[dict[int, Logprob]]:
        return self.logprobs[self._last_logprobs :]

    def apply(self, response: Response) -> None:
        self._last_tokens, self._last_logprobs = len(self.token_ids), len(self.logprobs)
        self.token_ids = [*self.token_ids, *response.token_ids]
        self.logprobs += response.logprobs
        self.finish_reason = response.finish_reason
        if response.trim:  # TensorRT-LLM does not trim the log-probabilities
            self.token_ids = self.token_ids[: -response.trim]


class RequestOutput:
    """Async-iterable; every step yields this same object. Bound to the event loop in which it was created."""

    def __init__(self, llm: Any, request_id: int) -> None:
        self._llm = llm
        self.request_id = request_id
        self.outputs = [CompletionOutput()]
        self.cached_tokens = 0
        self._done = False
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Response] = asyncio.Queue()

    def put(self, response: Response) -> None:
        """Adds a response; the worker calls this from its thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, response)

    def abort(self) -> None:
        """Requests the abort; the iterator ends later, with finish_reason "cancelled"."""
        self._llm.worker.abort(self.request_id)

    def __aiter__(self) -> RequestOutput:
        return self

    async def __anext__(self) -> RequestOutput:
        if self._done:
            raise StopAsyncIteration
        response = await self._queue.get()
        if response.fatal is not None:
            self._done = True
            raise response.fatal
        self._llm.raise_background_error()
        if response.error is not None:
            raise RequestError(response.error)  # _done stays False, so another step would wait forever
        self.outputs[0].apply(response)
        self._done = response.finish_reason is not None
        return self
