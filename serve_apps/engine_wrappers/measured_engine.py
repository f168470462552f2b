"""MeasuredEngine, which counts requests, tokens, latencies and outcomes for Prometheus."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncGenerator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric

from serve_apps.engine_wrappers.token_charge import billed_prompt_tokens
from serve_apps.engine_wrappers.wrapper import EngineWrapper
from serve_apps.engines.engine import GenerationRequest, InferenceEngine, TokenChunk
from tuneyard.core.errors import AnswerTimeoutError, EngineError, RequestError

_FIRST_TOKEN_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TOKEN_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_OUTCOMES = ("stop", "length", "abort", "cancelled", "refused", "timeout", "engine_error")

logger = logging.getLogger(__name__)


class MeasuredEngine(EngineWrapper):
    """Measures an engine. `model`, `version` and `replica` label every metric.

    Each instance has its own Prometheus registry. Make it the outermost wrapper but for IdleCapacityEngine, so that it
    sees the errors of the others.
    """

    def __init__(self, engine: InferenceEngine, model: str, version: str, replica: str = "") -> None:
        super().__init__(engine)
        self.waiting_requests = 0
        """Requests that have no token yet."""
        self._registry = CollectorRegistry()
        self._labels = {"model": model, "version": version, "replica": replica}
        self._first_token = self._histogram(
            "first_token_seconds", "From request to first token.", _FIRST_TOKEN_BUCKETS_S
        )
        self._token = self._histogram("token_seconds", "Between tokens of a request.", _TOKEN_BUCKETS_S)
        self._prompt_tokens = self._counter("prompt_tokens", "Tokens of prompts.").labels(**self._labels)
        self._completion_tokens = self._counter("completion_tokens", "Tokens generated.").labels(**self._labels)
        requests = self._counter("requests", "Requests by how they ended.", "outcome")
        self._outcomes = {name: requests.labels(**self._labels, outcome=name) for name in _OUTCOMES}
        self._gauge("running_requests", "Requests in the engine.").set_function(lambda: self.stats().requests)
        self._gauge("waiting_requests", "Of the running requests, those that have no token yet.").set_function(
            lambda: self.waiting_requests
        )
        self._gauge("kv_cache_usage", "Share of the KV cache in use.").set_function(lambda: self.stats().kv_cache_usage)

    def _counter(self, name: str, description: str, *more_labels: str) -> Counter:
        return Counter(f"tuneyard_{name}", description, [*self._labels, *more_labels], registry=self._registry)

    def _histogram(self, name: str, description: str, buckets: tuple[float, ...]) -> Histogram:
        histogram = Histogram(
            f"tuneyard_{name}", description, [*self._labels], buckets=buckets, registry=self._registry
        )
        return histogram.labels(**self._labels)

    def _gauge(self, name: str, description: str) -> Gauge:
        gauge = Gauge(f"tuneyard_{name}", description, [*self._labels], registry=self._registry)
        return gauge.labels(**self._labels)

    async def metrics(self) -> list[Metric]:
        """The current values, as prometheus_client's metric families."""
        return list(self._registry.collect())

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenChunk, None]:
        outcome = "cancelled"
        last_chunk_at = time.monotonic()
        is_waiting = True
        self.waiting_requests += 1
        try:
            async with contextlib.aclosing(self._engine.generate(request)) as chunks:
                async for chunk in chunks:
                    if not chunk.token_ids and chunk.finish_reason is None:
                        yield chunk  # the request was accepted, or its prompt was scored
                        continue
                    now = time.monotonic()
                    self._record(request, chunk, now - last_chunk_at, is_first=is_waiting)
                    self.waiting_requests -= is_waiting
                    last_chunk_at, is_waiting = now, False
                    outcome = chunk.finish_reason or outcome
                    yield chunk
        except EngineError as e:
            outcome = "engine_error"
            logger.warning("request %s failed in the engine: %s", request.request_id, e.message)
            raise
        except AnswerTimeoutError as e:
            outcome = "timeout"
            logger.warning("request %s was ended: %s", request.request_id, e.message)
            raise
        except RequestError:
            outcome = "refused"
            raise
        finally:
            self.waiting_requests -= is_waiting
            self._outcomes[outcome].inc()

    def _record(self, request: GenerationRequest, chunk: TokenChunk, seconds: float, *, is_first: bool) -> None:
        """Records a chunk that came `seconds` after the one before it, or after the request's start."""
        count = len(chunk.token_ids)
        self._completion_tokens.inc(count)
        if is_first:
            self._prompt_tokens.inc(billed_prompt_tokens(request))
            self._first_token.observe(seconds)
        elif count:
            self._token.observe(seconds / count)
