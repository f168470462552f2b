"""CPU time of each layer of the API per token and per request, measured in one process without a network.

The engine is scripted and computes nothing, so a layer's time is its own. The time per token of a real engine is given
for comparison. The layer `ASGI` ends where the server would write to its socket.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from serve_apps.api.chat import ChatService
from serve_apps.api.routes import ApiOptions, create_api
from serve_apps.engine_wrappers.measured_engine import MeasuredEngine
from serve_apps.engines.engine import GenerationRequest, SamplingParams
from serve_apps.engines.scripted_engine import ScriptedEngine
from serve_apps.generation.served_model import ServedModel
from serve_apps.http_front.events import server_sent_events
from tests.bench import engine as engine_bench
from tests.bench.api_lag import SCRIPT
from tests.bench.bases import TINY, base
from tests.harmony_text import encode_spelled_out
from tuneyard.api.wire.chat_request import ChatCompletionRequest
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings

TOKENS, STREAMS, ROUNDS, REQUESTS = 1000, 20, 5, 200
TURNS = 8
"""Messages of the chat whose rendering is measured."""


def run() -> dict[str, Any]:
    """Microseconds per token and per request: medians of rounds in which the layers take turns."""
    tiny = base(TINY)
    codec = HarmonyCodec.from_checkpoint(tiny, CodecSettings())
    per_token = asyncio.run(_per_token(tiny, codec))
    bare = engine_bench.run()
    (real,) = [row for row in bare["streams"] if row["streams"] == engine_bench.MAX_CPU_STREAMS]
    return {
        "us_per_token": per_token,
        "us_per_request": _per_request(codec),
        "engine_us_per_token": 1e6 / real["output_tokens_per_s"],
        "engine": f"{bare['checkpoint']} with {bare['engine']}, {real['streams']} streams",
        "biggest": max(per_token, key=lambda name: per_token[name]),
    }


async def _per_token(checkpoint: Path, codec: HarmonyCodec) -> dict[str, float]:
    """Microseconds per token that each layer adds to the layer before it."""
    engine = MeasuredEngine(ScriptedEngine([encode_spelled_out(checkpoint, SCRIPT)]), "tiny", "tiny/1")
    model = ServedModel(engine, codec, "tiny", "0123456789abcdef")
    service = ChatService(model)
    api = create_api(model, ApiOptions())
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": TOKENS}
    request = ChatCompletionRequest.parse(body)
    prompt = tuple(codec.render([message.to_chat_message() for message in request.messages]))
    serial = iter(range(10**9))

    def generation() -> GenerationRequest:
        return GenerationRequest(str(next(serial)), prompt, SamplingParams(TOKENS), codec.stop_token_ids)

    async def chunks() -> Any:
        return await service.open_stream(request)

    async def events() -> None:
        await _drain(server_sent_events(await chunks()))

    layers: dict[str, Callable[[], Awaitable[None]]] = {
        "engine loop": lambda: _drain(engine.generate(generation())),
        "harmony parser and chunks": lambda: _opened(chunks),
        "JSON and SSE": events,
        "ASGI": lambda: _call(api, json.dumps(body).encode()),
    }
    rounds: dict[str, list[float]] = {name: [] for name in layers}
    for number in range(ROUNDS + 1):
        for name, layer in layers.items():
            started = time.perf_counter()
            for _ in range(STREAMS):
                await layer()
            if number:  # the first warms up
                rounds[name].append((time.perf_counter() - started) * 1e6 / STREAMS / TOKENS)
    totals = [statistics.median(values) for values in rounds.values()]
    return dict(
        zip(layers, (after - before for before, after in zip([0.0, *totals], totals, strict=False)), strict=True)
    )


def _per_request(codec: HarmonyCodec) -> dict[str, float]:
    """Microseconds that a chat of TURNS messages takes before its first token."""
    words = "The filter of the second pump is due for a change after every ninety days of use. " * 6
    turns = [{"role": ("user", "assistant")[n % 2], "content": f"{n}: {words}"} for n in range(TURNS - 1)]
    data = json.dumps({"model": "tiny", "messages": turns}).encode()
    request = ChatCompletionRequest.parse(json.loads(data))
    chats = [message.to_chat_message() for message in request.messages]
    return {
        "JSON and validation": _timed(lambda: ChatCompletionRequest.parse(json.loads(data))),
        "harmony rendering": _timed(lambda: codec.render(chats)),
        "prompt_tokens": len(codec.render(chats)),
    }


def _timed(action: Callable[[], Any]) -> float:
    """The median duration of the action in microseconds."""
    durations_s = []
    for _ in range(REQUESTS):
        started = time.perf_counter()
        action()
        durations_s.append(time.perf_counter() - started)
    return statistics.median(durations_s) * 1e6


async def _drain(items: AsyncIterator[Any]) -> None:
    async for _ in items:
        pass


async def _opened(chunks: Callable[[], Awaitable[AsyncIterator[Any]]]) -> None:
    await _drain(await chunks())


async def _call(api: Any, body: bytes) -> None:
    """Calls the application with a request, as the server does, and drops the answer."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/chat/completions",
        "raw_path": b"/v1/chat/completions",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"host", b"bench")],
        "server": ("127.0.0.1", 1),
        "client": ("127.0.0.1", 2),
    }
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        raise AssertionError("the client does not disconnect")

    async def send(message: dict[str, Any]) -> None:
        assert message["type"] != "http.response.start" or message["status"] == 200

    await api(scope, receive, send)
