"""EngineWrapper, an engine that passes every call on to another engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from serve_apps.engines.engine import EngineStats, GenerationRequest, InferenceEngine, TokenChunk


class EngineWrapper:
    """Fulfils InferenceEngine with the engine that it wraps. A subclass overrides what it changes.

    A `generate` of a subclass closes the wrapped engine's stream when its own stream is closed: that is what aborts
    the request in the engine.
    """

    def __init__(self, engine: InferenceEngine) -> None:
        self._engine = engine

    @property
    def max_model_len(self) -> int:
        return self._engine.max_model_len

    async def start(self) -> None:
        await self._engine.start()

    def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenChunk, None]:
        return self._engine.generate(request)

    async def abort(self, request_id: str) -> None:
        await self._engine.abort(request_id)

    def stats(self) -> EngineStats:
        return self._engine.stats()

    async def check_health(self) -> None:
        await self._engine.check_health()

    async def shutdown(self) -> None:
        await self._engine.shutdown()
