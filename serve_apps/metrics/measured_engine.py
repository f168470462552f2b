"""An engine with Prometheus metrics and a time limit around it. Counts how much, how fast, how it ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextvars import ContextVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric

from serve_apps.engines.engine import EngineStats, GenerationRequest, InferenceEngine, TokenChunk
from tuneyard.core.errors import AnswerTimeoutError, EngineError, RequestError

CHARGE: ContextVar[Callable[[int], None] | None] = ContextVar("charge", default=None)
"""Whom the tokens of the request at hand are counted for; set where the request is let in."""

_FIRST_TOKEN_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class MeasuredEngine:
    """See InferenceEngine. `model`, `version` and `replica` label every metric; each has a registry of its own.

    A request that takes longer than `timeout_s`, waiting included, ends with an AnswerTimeoutError.
    """

    def __init__(
        self, engine: InferenceEngine, model: str, version: str, timeout_s: float | None = None, replica: str = ""
    ) -> None:
        self._engine = engine
        self.waiting = 0
        """Requests whose first token has not come."""
        self._timeout_s = timeout_s
        self._registry = CollectorRegistry()
        labels = {"model": model, "version": version, "replica": replica}
        registry = self._registry

        def counter(name: str, what: str, *more: str) -> Counter:
            return Counter(f"tuneyard_{name}", what, [*labels, *more], registry=registry)

        def histogram(name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"tuneyard_{name}", what, [*labels], buckets=buckets, registry=registry).labels(**labels)

        self._first_token = histogram("first_token_seconds", "From request to first token.", _FIRST_TOKEN_S)
        self._token = histogram("token_seconds", "Between tokens of a request.", _TOKEN_S)
        self._prompt_tokens = counter("prompt_tokens", "Tokens of prompts.").labels(**labels)
        self._completion_tokens = counter("completion_tokens", "Tokens generated.").labels(**labels)
        endings = counter("requests", "Requests by how they ended.", "outcome")
        self._endings = {
            name: endings.labels(**labels, outcome=name)
            for name in ("stop", "length", "abort", "cancelled", "refused", "timeout", "engine_error")
        }
        running = Gauge("tuneyard_running_requests", "Requests in the engine.", [*labels], registry=registry)
        running.labels(**labels).set_function(lambda: self.stats().requests)
        waiting = Gauge(
            "tuneyard_waiting_requests", "Of them, those whose first token has not come.", [*labels], registry=registry
        )
        waiting.labels(**labels).set_function(lambda: self.waiting)
        usage = Gauge("tuneyard_kv_cache_usage", "Share of the KV cache in use.", [*labels], registry=registry)
        usage.labels(**labels).set_function(lambda: self.stats().kv_cache_usage)

    async def metrics(self) -> list[Metric]:
        """As prometheus_client's families."""
        return list(self._registry.collect())

    @property
    def max_model_len(self) -> int:
        return self._engine.max_model_len

    async def start(self) -> None:
        await self._engine.start()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenChunk, None]:
        outcome = "cancelled"
        last = time.monotonic()
        first = True
        charge = CHARGE.get()
        chunks = self._engine.generate(request)
        self.waiting += 1
        try:
            async for chunk in self._in_time(chunks):
                now = time.monotonic()
                self._record(request, chunk, now - last, first=first)
                if charge is not None:
                    charge(len(chunk.token_ids) + (_prompt_tokens(request) if first else 0))
                self.waiting -= first
                last, first = now, False
                outcome = chunk.finish_reason or outcome
                yield chunk
        except EngineError:
            outcome = "engine_error"
            raise
        except AnswerTimeoutError:
            outcome = "timeout"
            raise
        except RequestError:
            outcome = "refused"
            raise
        finally:
            self.waiting -= first
            self._endings[outcome].inc()
            await chunks.aclose()

    async def _in_time(self, chunks: AsyncGenerator[TokenChunk, None]) -> AsyncIterator[TokenChunk]:
        if self._timeout_s is None:
            async for chunk in chunks:
                yield chunk
            return
        deadline = asyncio.get_running_loop().time() + self._timeout_s
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
                    f"The answer was not complete after {self._timeout_s:g} s (answer_timeout_s). Ask for fewer "
                    "tokens, or again when the server is less busy."
                ) from e
            yield chunk

    def _record(self, request: GenerationRequest, chunk: TokenChunk, took_s: float, *, first: bool) -> None:
        count = len(chunk.token_ids)
        self._completion_tokens.inc(count)
        if first:
            self._prompt_tokens.inc(_prompt_tokens(request))
            self._first_token.observe(took_s)
        elif count:
            self._token.observe(took_s / count)

    async def abort(self, request_id: str) -> None:
        await self._engine.abort(request_id)

    def stats(self) -> EngineStats:
        return self._engine.stats()

    async def check_health(self) -> None:
        await self._engine.check_health()

    async def shutdown(self) -> None:
        await self._engine.shutdown()


def _prompt_tokens(request: GenerationRequest) -> int:
    """As usage has it: once, however many choices there are."""
    return 0 if request.shares_prompt else len(request.prompt_token_ids)
