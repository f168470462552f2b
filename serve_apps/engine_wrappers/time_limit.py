"""TimeLimitedEngine, which aborts requests that take too long."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from serve_apps.engine_wrappers.wrapper import EngineWrapper
from serve_apps.engines.engine import GenerationRequest, InferenceEngine, TokenChunk
from tuneyard.core.errors import AnswerTimeoutError


class TimeLimitedEngine(EngineWrapper):
    """Ends a request with AnswerTimeoutError `timeout_s` seconds after its start, queueing in the engine included."""

    def __init__(self, engine: InferenceEngine, timeout_s: float) -> None:
        super().__init__(engine)
        self._timeout_s = timeout_s

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenChunk, None]:
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        async with contextlib.aclosing(self._engine.generate(request)) as chunks:
            while True:
                limit = asyncio.timeout_at(deadline)
                try:
                    async with limit:
                        chunk = await anext(chunks)
                except StopAsyncIteration:
                    return
                except TimeoutError as e:
                    if not limit.expired():
                        raise  # the engine's own
                    raise AnswerTimeoutError(
                        f"The answer was not complete after {self._timeout_s:g} s (answer_timeout_s). Request fewer "
                        "tokens, or retry when the server is less busy."
                    ) from e
                yield chunk
