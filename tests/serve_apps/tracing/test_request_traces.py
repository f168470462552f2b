"""Traces of requests: the steps in their order, what they say, and that no text is in them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import pickle
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from serve_apps.api.call_origin import CallOrigin
from serve_apps.api.model_calls import ModelCalls
from serve_apps.api.responses.store import ResponseStore
from serve_apps.api.responses.stored_responses import StoredResponses
from serve_apps.api.routes import ApiOptions, create_api
from serve_apps.engine_wrappers.measured_engine import MeasuredEngine
from serve_apps.engine_wrappers.traced_engine import TracedEngine
from serve_apps.engine_wrappers.wrapper import EngineWrapper
from serve_apps.engines.engine import GenerationRequest, TokenChunk
from serve_apps.generation.served_model import ServedModel
from serve_apps.http_front.request_tracing import TracingMiddleware
from serve_apps.keys.key_gate import KeyGate
from serve_apps.tracing.opentelemetry_tracing import OpenTelemetryTracing
from serve_apps.tracing.request_id import working_for
from tests.serve_apps.api_client import ANSWER, CHAT
from tests.serve_apps.conftest import ModelFactory
from tuneyard.api.api_keys import KeyStore
from tuneyard.core.errors import EngineError
from tuneyard.storage.sql.location import SqlLocation

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"


class Traced:
    """A client of a traced API, and the spans of its requests."""

    def __init__(
        self, client: httpx.AsyncClient, tracing: OpenTelemetryTracing, exporter: InMemorySpanExporter
    ) -> None:
        self.client = client
        self._tracing = tracing
        self._exporter = exporter

    def spans(self) -> Sequence[ReadableSpan]:
        """All spans since the last call, in the order in which they ended."""
        self._tracing._provider.force_flush()
        spans = self._exporter.get_finished_spans()
        self._exporter.clear()
        return spans


@pytest.fixture
async def traced(make_model: ModelFactory, tmp_path: Path) -> AsyncIterator[Callable[..., Traced]]:
    """Starts a traced API of the model `tiny`; options are those of ApiOptions."""
    stack = contextlib.AsyncExitStack()

    async def start(*replies: str, model: ServedModel | None = None, **options: Any) -> Traced:
        exporter = InMemorySpanExporter()
        tracing = OpenTelemetryTracing(exporter, "test")
        stack.callback(tracing.close)
        if model is None:
            model = make_model(*(replies or (ANSWER,)))
            model.engine = TracedEngine(model.engine, "tiny")
        store = ResponseStore(SqlLocation(file=tmp_path / "db"), max_age_s=3600, max_bytes_per_owner=2**20)
        stack.callback(store.close)
        api = create_api(model, ApiOptions(tracing=tracing, stored_responses=StoredResponses(store), **options))
        transport = httpx.ASGITransport(api, raise_app_exceptions=False)
        client = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://test"))
        return Traced(client, tracing, exporter)

    async with stack:
        yield start


def by_name(spans: Sequence[ReadableSpan]) -> dict[str, ReadableSpan]:
    return {span.name: span for span in spans}


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_request_is_one_trace_from_its_arrival_to_its_last_byte(
    traced: Callable[..., Any], tmp_path: Path, is_stream: bool
) -> None:
    keys = KeyStore(tmp_path / "keys.json")
    _, secret = keys.create("phone app")
    api = await traced(gate=KeyGate(keys))
    headers = {"Authorization": f"Bearer {secret}", "X-Request-Id": "req-7", "traceparent": TRACEPARENT}
    usage = {"stream": True, "stream_options": {"include_usage": True}} if is_stream else {}
    answer = await api.client.post("/v1/chat/completions", json=CHAT | usage, headers=headers)
    assert answer.status_code == 200
    body = json.loads(answer.text.split("data: ")[-2] if is_stream else answer.text)
    spans = by_name(api.spans())
    assert list(spans)[:2] == ["read body", "render prompt"]
    root, engine = spans["POST /v1/chat/completions"], spans["engine"]
    assert len(spans) == 4
    for span in spans.values():
        assert format(span.context.trace_id, "032x") == TRACE_ID
        assert span.parent is not None
        assert span.parent.span_id == (int(PARENT_ID, 16) if span is root else root.context.span_id)
    assert attributes(root) == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "tuneyard.request_id": "req-7",
        "tuneyard.key.name": "phone app",
        "gen_ai.request.model": "tiny",
        "gen_ai.usage.input_tokens": body["usage"]["prompt_tokens"],
        "gen_ai.usage.output_tokens": body["usage"]["completion_tokens"],
    }
    assert [event.name for event in engine.events] == ["accepted", "first token", "last token"]
    assert attributes(engine)["gen_ai.response.finish_reasons"] == "stop"
    times = [spans["read body"].start_time, spans["render prompt"].start_time, engine.start_time]
    times += [event.timestamp for event in engine.events] + [root.end_time]
    assert times == sorted(times)
    assert root.start_time <= times[0]


async def test_choices_and_prompts_have_a_step_each(traced: Callable[..., Any]) -> None:
    api = await traced()
    body = {"model": "tiny", "prompt": ["one", "two"], "n": 2, "max_tokens": 3}
    answer = await api.client.post("/v1/completions", json=body)
    spans = api.spans()
    assert [span.name for span in spans].count("engine") == 4
    assert [span.name for span in spans].count("render prompt") == 2
    used = attributes(by_name(spans)["POST /v1/completions"])
    assert used["gen_ai.usage.output_tokens"] == answer.json()["usage"]["completion_tokens"] == 12
    assert used["gen_ai.usage.input_tokens"] == answer.json()["usage"]["prompt_tokens"]


async def test_refusals_and_unknown_paths_are_traced_without_their_text(traced: Callable[..., Any]) -> None:
    api = await traced()
    await api.client.post("/v1/chat/completions", json=CHAT | {"model": "secret model"})
    await api.client.request("BREW", "/v1/secret/path?secret=1")
    for path in ("/healthz", "/metrics"):
        await api.client.get(path)
    spans = api.spans()
    assert [span.name for span in spans] == ["read body", "POST /v1/chat/completions", "_OTHER"]
    assert [attributes(span).get("http.response.status_code") for span in spans] == [None, 404, 404]
    assert "secret" not in "".join(span.to_json() for span in spans)


async def test_probes_below_a_models_own_path_are_not_traced() -> None:
    """Ray Serve leaves a model's route_prefix in the path, and names it as root_path."""

    async def app(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    exporter = InMemorySpanExporter()
    tracing = OpenTelemetryTracing(exporter, "test")
    transport = httpx.ASGITransport(TracingMiddleware(app, tracing), root_path="/base")
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for path in ("healthz", "readyz", "metrics", "v1/models"):
            assert (await client.get(f"/base/{path}")).status_code == 204
    tracing.close()
    assert len(exporter.get_finished_spans()) == 1


class FailingEngine(EngineWrapper):
    """Fails after the first token."""

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenChunk, None]:
        async with contextlib.aclosing(self._engine.generate(request)) as chunks:
            async for chunk in chunks:
                yield chunk
                if chunk.token_ids:
                    raise EngineError("The GPU is gone; the prompt was: secret.")


async def test_an_engine_that_fails_marks_the_trace_and_logs_the_requests_id(
    traced: Callable[..., Any], make_model: ModelFactory, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model(ANSWER)
    model.engine = TracedEngine(MeasuredEngine(FailingEngine(model.engine), "tiny", "tiny/1"), "tiny")
    api = await traced(model=model)
    with caplog.at_level(logging.WARNING):
        answer = await api.client.post("/v1/chat/completions", json=CHAT, headers={"X-Request-Id": "req-9"})
    assert answer.status_code == 500
    assert re.search(r"request req-9-[0-9a-f]{12} failed in the engine", caplog.text)
    spans = by_name(api.spans())
    root, engine = spans["POST /v1/chat/completions"], spans["engine"]
    assert (attributes(root)["error.type"], attributes(engine)["error.type"]) == ("500", "EngineError")
    for span in (root, engine):
        assert span.status.status_code == StatusCode.ERROR
        assert "secret" not in span.to_json()


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_client_that_leaves_ends_the_trace(make_model: ModelFactory, is_cancelled: bool) -> None:
    """The server tells the application, or cancels it, as Ray Serve does."""
    exporter = InMemorySpanExporter()
    model = make_model(ANSWER, token_interval_s=0.05)
    model.engine = TracedEngine(model.engine, "tiny")
    tracing = OpenTelemetryTracing(exporter, "test")
    api = create_api(model, ApiOptions(tracing=tracing))
    with_stream = json.dumps(CHAT | {"stream": True}).encode()
    received = [{"type": "http.request", "body": with_stream, "more_body": False}]
    has_left = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if received:
            return received.pop()
        await has_left.wait()
        return {"type": "http.disconnect"} if not is_cancelled else await asyncio.Future()

    async def send(message: dict[str, Any]) -> None:
        if b'"content":' in message.get("body", b""):
            has_left.set()

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "query_string": b"",
        "http_version": "1.1",
    }
    headers = [(b"host", b"test"), (b"content-type", b"application/json")]
    asgi = {"version": "3.0", "spec_version": "2.3"}
    call = asyncio.ensure_future(api(scope | {"headers": headers, "asgi": asgi}, receive, send))
    await has_left.wait()
    if is_cancelled:
        call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await call
    tracing.close()
    spans = by_name(exporter.get_finished_spans())
    expected = "cancelled" if is_cancelled else "client_disconnected"
    assert attributes(spans["POST /v1/chat/completions"])["error.type"] == expected
    assert attributes(spans["engine"])["error.type"] == "cancelled"


async def test_a_call_of_the_gateway_continues_its_trace(make_model: ModelFactory) -> None:
    exporter = InMemorySpanExporter()
    tracing = OpenTelemetryTracing(exporter, "test")
    model = make_model(ANSWER)
    model.engine = TracedEngine(model.engine, "tiny")
    calls = ModelCalls(model, tracing=tracing)
    with working_for("req-8"), tracing.begin("gateway", {}) as gateway:
        origin = pickle.loads(pickle.dumps(CallOrigin.of_current_request(gateway)))
    assert [answer.status async for answer in calls.complete("/v1/chat/completions", CHAT, "", origin)] == [200]
    streamed = calls.stream("/v1/chat/completions", CHAT | {"stream": True}, "", origin)
    assert [item async for item in streamed]
    tracing.close()
    spans = exporter.get_finished_spans()
    root = by_name(spans)["gateway"]
    below = [span for span in spans if span.parent is not None and span.parent.span_id == root.context.span_id]
    assert [span.name for span in below] == ["queue", "/v1/chat/completions"] * 2
    assert all(span.context.trace_id == root.context.trace_id for span in spans)
    for span in (below[1], below[3]):
        assert attributes(span)["tuneyard.request_id"] == "req-8"
        assert attributes(span)["gen_ai.usage.output_tokens"] > 0
        steps = [step.name for step in spans if step.parent and step.parent.span_id == span.context.span_id]
        assert steps == ["render prompt", "engine"]


TEXTS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=6, max_size=40)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS, path=st.sampled_from(["chat", "completions", "responses", "tokenize", "stored", "wrong", "grammar"]))
async def test_no_text_of_a_request_or_answer_is_in_a_span(traced: Callable[..., Any], text: str, path: str) -> None:
    marker = f"secret{text}"
    answer = f"<|channel|>final<|message|>{marker}<|return|>"
    api = await traced(answer if "<|" not in text else ANSWER)
    messages = [{"role": "system", "content": marker}, {"role": "user", "content": marker}]
    url, body = {
        "chat": ("/v1/chat/completions", CHAT | {"messages": messages, "stop": [marker], "stream": True}),
        "completions": ("/v1/completions", {"model": "tiny", "prompt": marker, "user": marker}),
        "responses": ("/v1/responses", {"model": "tiny", "input": marker, "instructions": marker, "stream": True}),
        "tokenize": ("/tokenize", {"model": "tiny", "prompt": marker}),
        "stored": ("/v1/responses", {"model": "tiny", "input": marker, "previous_response_id": marker}),
        "wrong": ("/v1/chat/completions", CHAT | {"messages": messages, marker: marker}),
        "grammar": ("/v1/chat/completions", CHAT | {"tools": [{"type": "function", "function": {"name": marker}}]}),
    }[path]
    await api.client.post(url, json=body, headers={"User-Agent": "client"})
    spans = api.spans()
    assert spans
    recorded = "".join(span.to_json() for span in spans)
    for needle in (marker, text, json.dumps(text).strip('"'), "secret"):
        assert needle not in recorded
