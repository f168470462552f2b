"""The running requests of an engine: a queue of chunks per request, filled by the engine and read by `generate`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from serve_apps.engines.engine import GenerationRequest, TokenChunk
from tuneyard.core.errors import EngineError, RequestError

ChunkCallback = Callable[[TokenChunk | EngineError], None]
"""Passes a chunk, or an error that ends the request, to the reader of one request; has no effect after the end."""


class RunningRequests:
    """Implements what InferenceEngine requires of chunks, endings, `abort` and engine failures, for any engine.

    Use it from one event loop only; other threads call its methods with loop.call_soon_threadsafe. Its length is the
    number of running requests.
    """

    def __init__(self) -> None:
        self._queues: dict[str, asyncio.Queue[TokenChunk | EngineError]] = {}
        self._cancel_callbacks: dict[str, Callable[[], None]] = {}
        self._failure: str | None = None

    def __len__(self) -> int:
        return len(self._queues)

    def check_alive(self) -> None:
        """Raises EngineError, a new instance each time, after `fail_all`."""
        if self._failure is not None:
            raise EngineError(self._failure)

    async def run(
        self, request: GenerationRequest, submit: Callable[[ChunkCallback], None], cancel: Callable[[], None]
    ) -> AsyncGenerator[TokenChunk, None]:
        """Submits the request to the engine and yields its chunks until the one with a finish_reason.

        The first chunk is empty: the engine has accepted the request.

        `submit` starts the request and passes its chunks to the callback that it gets. `cancel` stops the request; it
        is called if the iterator ends early, while the engine may still be working on the request. Raises RequestError
        if a request with this id is running, and EngineError if the engine has failed or fails.
        """
        self.check_alive()
        if request.request_id in self._queues:
            raise RequestError(f"A request with id {request.request_id} is already running.")
        queue = self._queues[request.request_id] = asyncio.Queue()
        self._cancel_callbacks[request.request_id] = cancel
        is_finished = False
        try:
            submit(queue.put_nowait)
            if queue.empty():
                yield TokenChunk(())
            while not is_finished:
                item = await queue.get()
                is_finished = isinstance(item, EngineError) or item.finish_reason is not None
                if isinstance(item, EngineError):
                    raise item
                yield item
        finally:
            del self._queues[request.request_id], self._cancel_callbacks[request.request_id]
            if not is_finished:
                cancel()

    def abort(self, request_id: str) -> None:
        """Ends a request with finish_reason "abort" and cancels it in the engine; ignores unknown ids."""
        if request_id in self._queues:
            self._queues[request_id].put_nowait(TokenChunk((), "abort"))
            self._cancel_callbacks[request_id]()

    def fail_all(self, message: str) -> None:
        """Ends all running requests with EngineError, and refuses later ones. The first call's message is kept."""
        self._failure = self._failure or message
        for queue in self._queues.values():
            queue.put_nowait(EngineError(self._failure))
