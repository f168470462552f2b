"""Streams: open before the first token, with comments while the engine works; nulls where OpenAI has them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from serve_apps.api.routes import ApiOptions, create_api
from serve_apps.engines.engine import OPTIONS
from serve_apps.http_front.events import chunk_json
from serve_apps.http_front.heartbeat import HEARTBEAT
from tests.serve_apps.api_client import ANSWER, CHAT, THOUGHT, TOOL, client_of, completion, decode_events, stream_chat
from tests.serve_apps.conftest import ModelFactory
from tuneyard.api.wire.chat_answer import ChatCompletionChunk
from tuneyard.configs.serve import HttpConfig


@pytest.mark.parametrize(
    ("path", "body", "choices"),
    [
        ("/v1/chat/completions", CHAT, 1),
        ("/v1/chat/completions", CHAT | {"n": 3}, 3),
        ("/v1/completions", completion(), 1),
        ("/v1/completions", completion(prompt=["a", "b"]), 2),
    ],
)
async def test_a_stream_opens_before_the_first_token(
    make_model: ModelFactory, path: str, body: dict[str, Any], choices: int
) -> None:
    """The engine's first token would come after a day."""
    model = make_model(ANSWER, token_interval_s=86_400)
    http = HttpConfig(allowed_hosts=("*",), heartbeat_s=0.01)
    api = create_api(model, ApiOptions(http=http))
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"test"), (b"content-type", b"application/json")],
    }
    sent: asyncio.Queue[Any] = asyncio.Queue()
    has_left = asyncio.Event()
    parts = [{"type": "http.request", "body": json.dumps(body | {"stream": True}).encode(), "more_body": False}]

    async def receive() -> Any:
        if parts:
            return parts.pop()
        await has_left.wait()
        return {"type": "http.disconnect"}

    answering = asyncio.create_task(api(scope, receive, sent.put))
    async with asyncio.timeout(30):
        start = await sent.get()
        assert start["status"] == 200
        comments = [(await sent.get())["body"] for _ in range(3)]
        assert comments == [HEARTBEAT.encode()] * 3
        assert model.engine.stats().requests == choices
        has_left.set()
        await answering
    assert model.engine.stats().requests == 0


async def test_every_empty_line_ends_an_event_with_data(make_model: ModelFactory) -> None:
    """openai-go before its pull request 621 fails at any other."""
    async with client_of(make_model(ANSWER)) as client:
        for path, body in (("/v1/chat/completions", CHAT), ("/v1/responses", {"model": "tiny", "input": "hi"})):
            text = (await client.post(path, json=body | {"stream": True})).text
            assert text.startswith(HEARTBEAT)
            assert all("data: " in block for block in text.removesuffix("\n\n").split("\n\n"))


async def test_chunks_have_the_nulls_of_openais(make_model: ModelFactory) -> None:
    async with client_of(make_model(ANSWER)) as client:
        *chunks, usage, _ = await stream_chat(client, CHAT | {"stream_options": {"include_usage": True}})
        assert all(chunk["usage"] is None for chunk in chunks)
        assert usage["usage"]["total_tokens"]
        *before, last = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
        assert (set(before), last) == ({None}, "stop")
        assert all(None not in chunk["choices"][0]["delta"].values() for chunk in chunks)
        assert all("usage" not in event for event in await stream_chat(client, CHAT) if event != "[DONE]")
        body = completion(stream=True, stream_options={"include_usage": True})
        *texts, usage, _ = decode_events((await client.post("/v1/completions", json=body)).text)
        assert all(chunk["usage"] is None for chunk in texts)
        assert texts[-1]["choices"][0]["finish_reason"]
        assert usage["usage"]["total_tokens"]


CALL = f'{THOUGHT}<|channel|>commentary to=functions.weather<|message|>{{"city": "Oslo \U0001f389"}}<|call|>'


@pytest.mark.parametrize(
    ("reply", "body"),
    [
        (ANSWER, CHAT),
        (ANSWER, CHAT | {"n": 3}),
        (ANSWER, CHAT | {"stream_options": {"include_usage": True}, "stop": ["llo"]}),
        (CALL, CHAT | {"tools": [TOOL]}),
        ('no header \x00"\\\x7f\u2028', CHAT | {"max_tokens": 12}),
    ],
    ids=["text", "choices", "usage and a stop string", "call", "malformed"],
)
async def test_every_chunk_has_the_bytes_of_its_model(
    make_model: ModelFactory, reply: str, body: dict[str, Any]
) -> None:
    """Also the chunks that were made without one."""
    async with client_of(make_model(reply, options=OPTIONS)) as client:
        text = (await client.post("/v1/chat/completions", json=body | {"stream": True})).text
    *events, done = [line for line in text.split("\n") if line.startswith("data: ")]
    assert done == "data: [DONE]"
    assert len(events) >= 3
    for event in events:
        chunk = ChatCompletionChunk.model_validate_json(event.removeprefix("data: "))
        assert event == f"data: {chunk_json(chunk)}"
