"""Results as TensorRT-LLM gives them: one object, stepped through, with what is new in each step."""

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
    """What the worker made since the last one; `error` fails the request, `fatal` the engine."""

    token_ids: list[int]
    logprobs: list[dict[int, Logprob]] = field(default_factory=list)
    finish_reason: str | None = None
    trim: int = 0
    """Tokens of a stop word, taken back unless asked to include them."""

    error: str | None = None
    fatal: BaseException | None = None


@dataclass(slots=True)
class CompletionOutput:
    """Cumulative; the diffs are of the last step only. Without a tokenizer there is no text."""

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
        if response.trim:  # the log-probabilities are not trimmed with them
            self.token_ids = self.token_ids[: -response.trim]


class RequestOutput:
    """Async-iterable; every step yields this same object. Bound to the event loop that it was made in."""

    def __init__(self, llm: Any, request_id: int) -> None:
        self._llm = llm
        self.request_id = request_id
        self.outputs = [CompletionOutput()]
        self._done = False
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Response] = asyncio.Queue()

    def put(self, response: Response) -> None:
        """From the worker's thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, response)

    def abort(self) -> None:
        """Asks for it; the iterator ends with finish_reason "cancelled" later on."""
        self._llm.worker.abort(self.request_id)

    def __aiter__(self) -> RequestOutput:
        return self

    async def __anext__(self) -> RequestOutput:
        if self._done:
            raise StopAsyncIteration
        response = await self._queue.get()
        self._llm.raise_background_error()
        if response.error is not None:
            raise RequestError(response.error)  # and it is not done: another step would wait for ever
        self.outputs[0].apply(response)
        self._done = response.finish_reason is not None
        return self
