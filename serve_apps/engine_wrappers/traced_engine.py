"""TracedEngine, which records each request to an engine as a step of the API request's trace."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from serve_apps.engine_wrappers.token_charge import billed_prompt_tokens
from serve_apps.engine_wrappers.wrapper import EngineWrapper
from serve_apps.engines.engine import GenerationRequest, InferenceEngine, TokenChunk
from serve_apps.tracing.span import NO_SPAN, TraceSpan, current_span


class TracedEngine(EngineWrapper):
    """Records when a request was accepted, its first and its last token, its token counts and how it ended.

    The time until the first token is that of the engine's queue and of the prompt's pass. `model` is the model's id.
    """

    def __init__(self, engine: InferenceEngine, model: str) -> None:
        super().__init__(engine)
        self._model = model

    def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenChunk, None]:
        """See InferenceEngine. A request that is not traced costs nothing more."""
        trace = current_span()
        return self._engine.generate(request) if trace is NO_SPAN else self._trace(request, trace)

    async def _trace(self, request: GenerationRequest, trace: TraceSpan) -> AsyncGenerator[TokenChunk, None]:
        trace.set("gen_ai.request.model", self._model)
        uncounted_prompt = billed_prompt_tokens(request)
        has_begun = False
        with trace.start("engine") as span:
            async with contextlib.aclosing(self._engine.generate(request)) as chunks:
                async for chunk in chunks:
                    if not has_begun:
                        span.add_event("first token" if chunk.token_ids else "accepted")
                        has_begun = bool(chunk.token_ids)
                    if chunk.token_ids:
                        for counted in (span, trace):
                            counted.add_tokens(uncounted_prompt, len(chunk.token_ids))
                        uncounted_prompt = 0
                    if chunk.finish_reason is not None:
                        span.add_event("last token")
                        span.set("gen_ai.response.finish_reasons", chunk.finish_reason)
                    yield chunk
