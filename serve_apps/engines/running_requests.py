"""The engines' book of running requests: one queue each, fed by the engine, read by `generate`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from serve_apps.engines.engine import GenerationRequest, TokenChunk
from tuneyard.core.errors import EngineError, RequestError

Deliver = Callable[[TokenChunk | EngineError], None]
"""Hands a chunk, or an error that ends the request, to the reader of one request; does nothing once it has ended."""


class RunningRequests:
    """Keeps InferenceEngine's promises about chunks, their ending, abort and death, whatever the engine.

    To be used from one event loop; an engine's threads come in through call_soon_threadsafe.
    """

    def __init__(self) -> None:
        self._queues: dict[str, asyncio.Queue[TokenChunk | EngineError]] = {}
        self._cancels: dict[str, Callable[[], None]] = {}
        self._death: str | None = None

    def __len__(self) -> int:
        return len(self._queues)

    def check_alive(self) -> None:
        """Raises EngineError, a new one each time, when the engine is dead."""
        if self._death is not None:
            raise EngineError(self._death)

    async def run(
        self, request: GenerationRequest, submit: Callable[[Deliver], None], cancel: Callable[[], None]
    ) -> AsyncGenerator[TokenChunk, None]:
        """Submits the request and gives its chunks. `cancel` is called when the engine may still be working on it."""
        self.check_alive()
        if request.request_id in self._queues:
            raise RequestError(f"A request with id {request.request_id} is already running.")
        queue = self._queues[request.request_id] = asyncio.Queue()
        self._cancels[request.request_id] = cancel
        finished = False
        try:
            submit(queue.put_nowait)
            while not finished:
                item = await queue.get()
                finished = isinstance(item, EngineError) or item.finish_reason is not None
                if isinstance(item, EngineError):
                    raise item
                yield item
        finally:
            del self._queues[request.request_id], self._cancels[request.request_id]
            if not finished:
                cancel()

    def abort(self, request_id: str) -> None:
        """Ends a request with finish_reason "abort" and cancels it; nothing for an unknown one."""
        if request_id in self._queues:
            self._queues[request_id].put_nowait(TokenChunk((), "abort"))
            self._cancels[request_id]()

    def die(self, reason: str) -> None:
        """Ends all running requests, and refuses later ones, with an EngineError; the first reason stays."""
        self._death = self._death or reason
        for queue in self._queues.values():
            queue.put_nowait(EngineError(self._death))


def check_request(
    request: GenerationRequest, max_model_len: int, *, options: frozenset[str] = frozenset(), refusal: str = ""
) -> None:
    """Raises RequestError for a request that no engine can answer: one such must never reach, and kill, an engine.

    `options`: those that this engine has; `refusal` is added for others.
    """
    for lacking in sorted(request.options() - options):
        raise RequestError(f"{lacking!r} is not supported by this engine.{refusal}", param=lacking, code="unsupported")
    length, sampling = len(request.prompt_token_ids), request.sampling
    if length == 0:
        raise RequestError("The prompt has no tokens.", param="messages")
    if length + 1 > max_model_len:
        raise RequestError(
            f"The prompt has {length} tokens; the context is {max_model_len} tokens, the answer included.",
            param="messages",
            code="context_length_exceeded",
        )
    if not 1 <= sampling.max_tokens <= max_model_len - length:
        raise RequestError(
            f"max_tokens={sampling.max_tokens} must be from 1 to {max_model_len - length}: the prompt has {length} "
            f"tokens, and the context is {max_model_len} tokens.",
            param="max_tokens",
            code="context_length_exceeded" if sampling.max_tokens > 0 else None,
        )
    # Written so that NaN fails too.
    for name, value, fine in (
        ("temperature", sampling.temperature, 0 <= sampling.temperature < float("inf")),
        ("top_p", sampling.top_p, 0 < sampling.top_p <= 1),
        ("top_k", sampling.top_k, sampling.top_k >= 0),
        ("min_p", sampling.min_p, 0 <= sampling.min_p <= 1),
        ("presence_penalty", sampling.presence_penalty, -2 <= sampling.presence_penalty <= 2),
        ("frequency_penalty", sampling.frequency_penalty, -2 <= sampling.frequency_penalty <= 2),
        ("repetition_penalty", sampling.repetition_penalty, 0 < sampling.repetition_penalty < float("inf")),
    ):
        if not fine:
            raise RequestError(f"{name}={value} is out of range.", param=name)
