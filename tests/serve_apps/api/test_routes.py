"""The API over HTTP with a scripted engine: wire format, exact token counts, errors that name the field at fault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.api.chat import ChatService
from tests.serve_apps.api_client import ANSWER, CHAT, TOOL, client_of, stream_chat
from tests.serve_apps.conftest import ModelFactory
from tuneyard.api.wire.chat_request import ChatCompletionRequest
from tuneyard.core.errors import RequestError

ASKED_ONCE: list[dict[str, Any]] = [{"role": "user", "content": "x"}]
CALL: dict[str, Any] = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
CALLED: dict[str, Any] = {"role": "assistant", "tool_calls": [CALL]}


@pytest.fixture
async def client(make_model: ModelFactory) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(make_model(ANSWER)) as client:
        yield client


async def test_whole_answer(client: httpx.AsyncClient) -> None:
    body = (await client.post("/v1/chat/completions", json=CHAT)).json()
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


async def test_streamed_answer_equals_the_whole_one(client: httpx.AsyncClient) -> None:
    whole = (await client.post("/v1/chat/completions", json=CHAT)).json()
    *chunks, done = await stream_chat(client, CHAT | {"stream_options": {"include_usage": True}})
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


async def test_usage_is_only_streamed_on_request(client: httpx.AsyncClient) -> None:
    assert all("usage" not in event for event in await stream_chat(client, CHAT) if event != "[DONE]")


async def test_max_tokens_cuts_and_says_so(client: httpx.AsyncClient) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        body = (await client.post("/v1/chat/completions", json=CHAT | {name: 3})).json()
        assert body["choices"][0]["finish_reason"] == "length"
        assert body["usage"]["completion_tokens"] == 3


async def test_without_max_tokens_the_models_limit_holds(make_model: ModelFactory) -> None:
    async with client_of(make_model("<|channel|>final<|message|>on and ", max_model_len=200)) as client:
        body = (await client.post("/v1/chat/completions", json=CHAT)).json()
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
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "messages.0.role", "must be 'system'"),
        ({"messages": [{"role": "user", "content": 3}]}, 400, "messages.0.content", "must be a string"),
        ({"messages": [{"role": "user", "content": "x", "nmae": "y"}]}, 400, "messages.0.nmae", "Unknown parameter"),
        ({"messages": [{"role": "user", "content": "word " * 3000}]}, 400, "messages", "length is 2048 tokens"),
        ({"max_tokens": 0}, 400, "max_tokens", "must be at least 1"),
        ({"max_tokens": 4000}, 400, "max_tokens", "max_tokens=4000"),
        ({"max_tokens": 4, "max_completion_tokens": 4}, 400, "max_tokens", "not both"),
        ({"temperature": 3}, 400, "temperature", "must be at most 2"),
        ({"temperature": "hot"}, 400, "temperature", "must be a number"),
        ({"stream_options": {"include_usage": True}}, 400, "stream_options", "only allowed with stream=true"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, 400, "tools", "'tools' is not supported"),
        ({"n": 17}, 400, "n", "must be at most 16"),
        ({"stop": ["a", ""]}, 400, "stop", "an empty stop string"),
        ({"stop": list("abcde")}, 400, "stop", "at most 4"),
        ({"response_format": {"type": "json_object"}}, 400, "response_format", "not supported by this engine"),
        ({"response_format": {"type": "xml"}}, 400, "response_format", "json_schema"),
        ({"logprobs": True}, 400, "logprobs", "not supported by this engine"),
        ({"top_logprobs": 3}, 400, "top_logprobs", "only allowed with logprobs=true"),
        ({"seed": 0, "temperature": 1}, 400, "seed", "not supported by this engine"),
        ({"logit_bias": {"5": 200}}, 400, "logit_bias", "must be at most 100"),
        ({"logit_bias": {"five": 1}}, 400, "logit_bias.five", "must be an integer"),
        ({"tool_choice": "required"}, 400, "tool_choice", "declares no tools"),
        ({"tools": [TOOL, TOOL]}, 400, "tools", "'weather' is declared twice"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "time"}}},
            400,
            "tool_choice",
            "names 'time'; declared: weather",
        ),
        ({"audio": {}}, 400, "audio", "'audio' is not supported by this server"),
        ({"temprature": 1}, 400, "temprature", "Unknown parameter: 'temprature'"),
        ({"messages": [{"role": "user", "content": "a" * 20_000}]}, 400, "messages", "without a break"),
        (
            {"messages": [{"role": "user", "content": "a b " * 80_000}]},
            400,
            "messages",
            "This model's maximum context length is 2048 tokens. However",
        ),
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
            "a result must follow its call",
        ),
        (
            {"messages": [*ASKED_ONCE, CALLED, *ASKED_ONCE]},
            400,
            "messages.2",
            "comes before the result of the call of 'weather'",
        ),
    ],
)
async def test_a_refusal_names_the_field_at_fault(
    client: httpx.AsyncClient, change: dict[str, Any], status: int, param: str, message: str
) -> None:
    for stream in (False, True):
        body = {k: v for k, v in (CHAT | change).items() if k != "stream_options" or not stream}
        if stream and "stream_options" in change:
            continue
        response = await client.post("/v1/chat/completions", json=body | ({"stream": True} if stream else {}))
        error = response.json()["error"]
        assert (response.status_code, error["param"]) == (status, param)
        assert message in error["message"]
        assert error["type"] == "invalid_request_error"


async def test_parameters_that_ask_for_nothing_pass(client: httpx.AsyncClient) -> None:
    harmless = {"n": 1, "presence_penalty": 0, "frequency_penalty": 0.0, "tools": None, "stop": None, "logprobs": False}
    assert (await client.post("/v1/chat/completions", json=CHAT | harmless | {"user": "u"})).status_code == 200


async def test_text_parts_are_joined(make_model: ModelFactory) -> None:
    async with client_of(make_model(ANSWER)) as client:
        plain = (await client.post("/v1/chat/completions", json=CHAT)).json()
        parts = [{"role": "user", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}]
        body = (await client.post("/v1/chat/completions", json=CHAT | {"messages": parts})).json()
    assert body["usage"]["prompt_tokens"] == plain["usage"]["prompt_tokens"]


async def test_tools_nested_deeper_than_the_limit_are_refused(make_model: ModelFactory) -> None:
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"properties": {"x": deep}}
    tool = {"type": "function", "function": {"name": "f", "parameters": deep}}
    async with client_of(make_model(ANSWER, options=frozenset({"response_format"}))) as client:
        refused = await client.post("/v1/chat/completions", json=CHAT | {"tools": [tool]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools.0.function.parameters")


async def test_unknown_paths_and_methods_have_openais_error_shape(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/nothing")).json()["error"]["message"].startswith("GET /v1/nothing: Not Found")
    assert (await client.get("/v1/chat/completions")).status_code == 405


async def test_malformed_output_is_answered_and_flagged(make_model: ModelFactory) -> None:
    async with client_of(make_model("just text<|return|>")) as client:
        body = (await client.post("/v1/chat/completions", json=CHAT)).json()
    assert body["choices"][0]["message"]["content"] == "just text"
    assert body["choices"][0]["harmony_malformed"] is True


async def test_an_engine_that_dies_in_mid_stream_is_an_error_event_and_no_done(make_model: ModelFactory) -> None:
    async with client_of(make_model(ANSWER, crash_after_tokens=12)) as client:
        *chunks, last = await stream_chat(client, CHAT)
        assert last["error"]["type"] == "server_error"
        assert any(chunk["choices"][0]["delta"].get("content") for chunk in chunks) or chunks
        assert (await client.get("/healthz")).status_code == 503
        response = await client.post("/v1/chat/completions", json=CHAT | {"stream": True})
        assert response.status_code == 500
        assert "crashed" in response.json()["error"]["message"]


async def test_closing_a_stream_aborts_its_request(make_model: ModelFactory) -> None:
    model = make_model("<|channel|>final<|message|>on and ", token_interval_s=0.01)
    request = ChatCompletionRequest.parse(CHAT | {"stream": True})
    chunks = await ChatService(model).open_stream(request)
    await anext(chunks)
    assert model.engine.stats().requests == 1
    await chunks.aclose()
    await asyncio.sleep(0)
    assert model.engine.stats().requests == 0


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
