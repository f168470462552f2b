"""The engines' book of running requests: one queue each, fed by the engine, read by `generate`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from serve_apps.inference_engine import GenerationRequest, TokenChunk
from tuneyard.errors import EngineError, RequestError


class RunningRequests:
    """Keeps InferenceEngine's promises about chunks, their ending, abort and death, whatever the engine.

    To be used from one event loop; an engine's threads come in through call_soon_threadsafe.
    """

    def __init__(self) -> None:
        self._queues: dict[str, asyncio.Queue[TokenChunk | EngineError]] = {}
        self._death: EngineError | None = None

    def __len__(self) -> int:
        return len(self._queues)

    @property
    def death(self) -> EngineError | None:
        """Why the engine is dead, or None."""
        return self._death

    async def run(
        self, request: GenerationRequest, submit: Callable[[], None], cancel: Callable[[], None]
    ) -> AsyncGenerator[TokenChunk, None]:
        """Submits the request and gives its chunks. `cancel` is called when it ends before its last chunk."""
        if self._death is not None:
            raise self._death
        if request.request_id in self._queues:
            raise RequestError(f"A request with id {request.request_id} is already running.")
        queue = self._queues[request.request_id] = asyncio.Queue()
        finished = False
        try:
            submit()
            while not finished:
                item = await queue.get()
                finished = isinstance(item, EngineError) or item.finish_reason is not None
                if isinstance(item, EngineError):
                    raise item
                yield item
        finally:
            del self._queues[request.request_id]
            if not finished:
                cancel()

    def deliver(self, request_id: str, item: TokenChunk | EngineError) -> None:
        """Hands over a chunk, or an error that ends the request; nothing for a request that has ended."""
        queue = self._queues.get(request_id)
        if queue is not None:
            queue.put_nowait(item)

    def abort(self, request_id: str) -> bool:
        """Ends a request with finish_reason "abort"; False for an unknown one."""
        self.deliver(request_id, TokenChunk((), "abort"))
        return request_id in self._queues

    def die(self, death: EngineError) -> None:
        """Ends all running requests, and refuses later ones, with this error."""
        self._death = self._death or death
        for queue in self._queues.values():
            queue.put_nowait(self._death)


def check_prompt_fits(request: GenerationRequest, max_model_len: int) -> None:
    """Raises RequestError, with both numbers, for a prompt that leaves no room for one token."""
    length = len(request.prompt_token_ids)
    if length + 1 > max_model_len:
        raise RequestError(
            f"The prompt has {length} tokens; the context is {max_model_len} tokens, the answer included.",
            param="messages",
            code="context_length_exceeded",
        )
