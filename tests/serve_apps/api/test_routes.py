"""The HTTP API over a scripted engine: wire format, exact counts, and every mistake refused by name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.api.chat_service import ChatService
from serve_apps.api.routes import ApiOptions, create_api
from tests.serve_apps.conftest import ServiceFactory
from tuneyard.api.requests import ChatCompletionRequest
from tuneyard.core.errors import RequestError

THOUGHT = "<|channel|>analysis<|message|>Think.<|end|><|start|>assistant"
ANSWER = f"{THOUGHT}<|channel|>final<|message|>Héllo \U0001f389!<|return|>"
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ASKED_ONCE: list[dict[str, Any]] = [{"role": "user", "content": "x"}]
CALL: dict[str, Any] = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
CALLED: dict[str, Any] = {"role": "assistant", "tool_calls": [CALL]}
ASK: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "temperature": 0}


def client_of(service: ChatService) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_api(lambda: service), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@pytest.fixture
async def client(make_service: ServiceFactory) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(make_service(ANSWER)) as client:
        yield client


async def events(client: httpx.AsyncClient, body: dict[str, Any]) -> list[Any]:
    response = await client.post("/v1/chat/completions", json=body | {"stream": True})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


async def test_answer_at_once(client: httpx.AsyncClient) -> None:
    body = (await client.post("/v1/chat/completions", json=ASK)).json()
    (choice,) = body["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": "Héllo \U0001f389!",
        "reasoning_content": "Think.",
        "tool_calls": None,
    }
    assert choice["finish_reason"] == "stop"
    assert choice["harmony_malformed"] is False
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert 0 < usage["completion_tokens_details"]["reasoning_tokens"] < usage["completion_tokens"]
    assert body["system_fingerprint"].startswith("fp_01234567")


async def test_answer_in_chunks_is_the_same_answer(client: httpx.AsyncClient) -> None:
    whole = (await client.post("/v1/chat/completions", json=ASK)).json()
    *chunks, done = await events(client, ASK | {"stream_options": {"include_usage": True}})
    assert done == "[DONE]"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
    message = whole["choices"][0]["message"]
    assert "".join(delta.get("content", "") for delta in deltas) == message["content"]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == message["reasoning_content"]
    assert [c["choices"][0].get("finish_reason") for c in chunks[:-1]][-1] == "stop"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == whole["usage"]
    assert len({chunk["id"] for chunk in chunks}) == 1


async def test_usage_is_only_sent_when_asked_for(client: httpx.AsyncClient) -> None:
    assert all("usage" not in event for event in await events(client, ASK) if event != "[DONE]")


async def test_max_tokens_cuts_and_says_so(client: httpx.AsyncClient) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        body = (await client.post("/v1/chat/completions", json=ASK | {name: 3})).json()
        assert body["choices"][0]["finish_reason"] == "length"
        assert body["usage"]["completion_tokens"] == 3


async def test_without_max_tokens_the_models_limit_holds(make_service: ServiceFactory) -> None:
    async with client_of(make_service("<|channel|>final<|message|>on and ", max_model_len=200)) as client:
        body = (await client.post("/v1/chat/completions", json=ASK)).json()
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["total_tokens"] == 200


async def test_models_and_health(client: httpx.AsyncClient) -> None:
    (card,) = (await client.get("/v1/models")).json()["data"]
    assert (card["id"], card["object"], card["max_model_len"]) == ("tiny", "model", 2048)
    assert (await client.get("/healthz")).json() == {"status": "ok", "requests": 0, "kv_cache_usage": 0.0}


@pytest.mark.parametrize(
    ("change", "status", "param", "message"),
    [
        ({"model": "other"}, 404, "model", "'other' does not exist here. Served: tiny"),
        ({"model": None}, 400, "model", "Missing required parameter: 'model'"),
        ({"messages": []}, 400, "messages", "at least 1 item"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "messages.0.role", "Input should be 'system'"),
        ({"messages": [{"role": "user", "content": 3}]}, 400, "messages.0.content", "valid string"),
        ({"messages": [{"role": "user", "content": "x", "nmae": "y"}]}, 400, "messages.0.nmae", "Unknown parameter"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, 400, "messages", "must not be the assistant's"),
        ({"messages": [{"role": "user", "content": "word " * 3000}]}, 400, "messages", "context is 2048 tokens"),
        ({"max_tokens": 0}, 400, "max_tokens", "greater than or equal to 1"),
        ({"max_tokens": 4000}, 400, "max_tokens", "max_tokens=4000 does not fit"),
        ({"max_tokens": 4, "max_completion_tokens": 4}, 400, "max_tokens", "not both"),
        ({"temperature": 3}, 400, "temperature", "less than or equal to 2"),
        ({"temperature": "hot"}, 400, "temperature", "valid number"),
        ({"stream_options": {"include_usage": True}}, 400, "stream_options", "only allowed with stream=true"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, 400, "tools", "'tools' is not supported"),
        ({"n": 17}, 400, "n", "less than or equal to 16"),
        ({"stop": ["a", ""]}, 400, "stop", "an empty stop string"),
        ({"stop": list("abcde")}, 400, "stop", "at most 4"),
        ({"response_format": {"type": "json_object"}}, 400, "response_format", "not supported by this engine"),
        ({"response_format": {"type": "xml"}}, 400, "response_format", "json_schema"),
        ({"logprobs": True}, 400, "logprobs", "not supported by this engine"),
        ({"top_logprobs": 3}, 400, "top_logprobs", "only allowed with logprobs=true"),
        ({"seed": 0}, 400, "seed", "not supported by this engine"),
        ({"logit_bias": {"5": 200}}, 400, "logit_bias", "less than or equal to 100"),
        ({"logit_bias": {"five": 1}}, 400, "logit_bias.five", "valid integer"),
        ({"tool_choice": "required"}, 400, "tool_choice", "there are no tools"),
        ({"tools": [TOOL, TOOL]}, 400, "tools", "'weather' is declared twice"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "time"}}},
            400,
            "tool_choice",
            "names 'time'; declared: weather",
        ),
        ({"audio": {}}, 400, "audio", "'audio' is not supported by this server"),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]},
            400,
            "messages",
            "out of order: message 2 has role 'user'",
        ),
        ({"temprature": 1}, 400, "temprature", "Unknown parameter: 'temprature'"),
        ({"messages": [{"role": "user", "content": "a" * 20_000}]}, 400, "messages", "in one piece"),
        ({"messages": [{"role": "user", "content": "a b " * 80_000}]}, 400, "messages", "longer than this model's"),
        (
            {"messages": [{"role": "user", "content": "x", "tool_call_id": "c"}]},
            400,
            "messages.0.tool_call_id",
            "which only role 'tool' has",
        ),
        (
            {"messages": [*ASKED_ONCE, {"role": "assistant", "content": "y"}, {"role": "tool", "content": "z"}]},
            400,
            "messages.2",
            "a result follows its call",
        ),
        (
            {"messages": [*ASKED_ONCE, CALLED, *ASKED_ONCE]},
            400,
            "messages.2",
            "comes before the result of the call of 'weather'",
        ),
    ],
)
async def test_what_cannot_be_honoured_is_refused_by_name(
    client: httpx.AsyncClient, change: dict[str, Any], status: int, param: str, message: str
) -> None:
    for stream in (False, True):
        body = {k: v for k, v in (ASK | change).items() if k != "stream_options" or not stream}
        if stream and "stream_options" in change:
            continue
        response = await client.post("/v1/chat/completions", json=body | ({"stream": True} if stream else {}))
        error = response.json()["error"]
        assert (response.status_code, error["param"]) == (status, param)
        assert message in error["message"]
        assert error["type"] == "invalid_request_error"


async def test_parameters_that_ask_for_nothing_pass(client: httpx.AsyncClient) -> None:
    harmless = {"n": 1, "presence_penalty": 0, "frequency_penalty": 0.0, "tools": None, "stop": None, "logprobs": False}
    assert (await client.post("/v1/chat/completions", json=ASK | harmless | {"user": "u"})).status_code == 200


async def test_text_parts_are_joined(make_service: ServiceFactory) -> None:
    async with client_of(make_service(ANSWER)) as client:
        plain = (await client.post("/v1/chat/completions", json=ASK)).json()
        parts = [{"role": "user", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}]
        body = (await client.post("/v1/chat/completions", json=ASK | {"messages": parts})).json()
    assert body["usage"]["prompt_tokens"] == plain["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b'"x"',
        b"\xff",
        b"[" * 50_000,
        b'{"model": "tiny", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "tiny", "messages": [{"role": "user", "content": "x"}], "logit_bias": {"5": NaN}}',
    ],
)
async def test_a_body_that_is_no_json_object(client: httpx.AsyncClient, body: bytes) -> None:
    response = await client.post("/v1/chat/completions", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_tools_that_harmony_cannot_render_are_refused(make_service: ServiceFactory) -> None:
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"properties": {"x": deep}}
    tool = {"type": "function", "function": {"name": "f", "parameters": deep}}
    async with client_of(make_service(ANSWER, options=frozenset({"response_format"}))) as client:
        refused = await client.post("/v1/chat/completions", json=ASK | {"tools": [tool]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools")


async def test_unknown_paths_and_methods_have_openais_error_shape(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/nothing")).json()["error"]["message"].startswith("GET /v1/nothing: Not Found")
    assert (await client.get("/v1/chat/completions")).status_code == 405


async def test_malformed_output_is_answered_and_flagged(make_service: ServiceFactory) -> None:
    async with client_of(make_service("just text<|return|>")) as client:
        body = (await client.post("/v1/chat/completions", json=ASK)).json()
    assert body["choices"][0]["message"]["content"] == "just text"
    assert body["choices"][0]["harmony_malformed"] is True


async def test_an_engine_that_dies_in_mid_stream_is_an_error_event_and_no_done(make_service: ServiceFactory) -> None:
    async with client_of(make_service(ANSWER, crash_after_tokens=12)) as client:
        *chunks, last = await events(client, ASK)
        assert last["error"]["type"] == "server_error"
        assert any(chunk["choices"][0]["delta"].get("content") for chunk in chunks) or chunks
        assert (await client.get("/healthz")).status_code == 503
        response = await client.post("/v1/chat/completions", json=ASK | {"stream": True})
        assert response.status_code == 500
        assert "crashed" in response.json()["error"]["message"]


async def test_closing_a_stream_aborts_its_request(make_service: ServiceFactory) -> None:
    service = make_service("<|channel|>final<|message|>on and ", token_interval_s=0.01)
    request = ChatCompletionRequest.parse(ASK | {"stream": True})
    chunks = await service.open_stream(request)
    await anext(chunks)
    assert service._engine.stats().requests == 1
    await chunks.aclose()  # type: ignore[attr-defined]
    await asyncio.sleep(0)
    assert service._engine.stats().requests == 0


@given(
    st.dictionaries(
        st.sampled_from([*ChatCompletionRequest.model_fields, "n", "tools", "stop", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda s: st.lists(s, max_size=3) | st.dictionaries(st.text(max_size=5), s, max_size=3),
            max_leaves=5,
        ),
    )
)
@settings(max_examples=200, deadline=None)
def test_no_body_raises_anything_but_a_request_error(body: dict[str, Any]) -> None:
    try:
        ChatCompletionRequest.parse(body)
    except RequestError as e:
        assert e.status_code == 400
        assert e.message


async def test_render_gives_the_prompt_of_a_completion_to_administrators_only(make_service: ServiceFactory) -> None:
    service = make_service(ANSWER)
    api = create_api(lambda: service, ApiOptions(admin_key="secret"))
    tool = {"type": "function", "function": {"name": "now"}}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://test") as client:
        path = "/v1/chat/completions/render"
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "}):
            refused = await client.post(path, json=ASK, headers=headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "admin_key_required")
        headers = {"Authorization": "Bearer secret"}
        rendered = (await client.post(path, json=ASK, headers=headers)).json()
        usage = (await client.post("/v1/chat/completions", json=ASK)).json()["usage"]
        assert len(rendered["prompt_token_ids"]) == usage["prompt_tokens"]
        assert rendered["text"].endswith("<|start|>user<|message|>hi<|end|><|start|>assistant")
        with_tool = (await client.post(path, json=ASK | {"tools": [tool]}, headers=headers)).json()
        assert "namespace functions" in with_tool["text"]
        refused = await client.post("/v1/chat/completions", json=ASK | {"tools": [tool]})
        assert refused.json()["error"]["param"] == "tools"


async def test_without_a_key_the_administrators_route_is_closed(client: httpx.AsyncClient) -> None:
    headers = {"Authorization": "Bearer None"}
    assert (await client.post("/v1/chat/completions/render", json=ASK, headers=headers)).status_code == 403
