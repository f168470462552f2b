"""POST /v1/responses over HTTP: whole and streamed answers, held against the types of OpenAI's SDK."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from serve_apps.api.routes import ApiOptions, create_api
from serve_apps.engines.engine import OPTIONS
from serve_apps.http_front.heartbeat import HEARTBEAT
from tests.serve_apps.answers.test_chat_answer import WithLogprobs
from tests.serve_apps.api.responses.event_replay import replay
from tests.serve_apps.api_client import ANSWER, THOUGHT, client_of, post
from tests.serve_apps.conftest import ModelFactory

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
CALL = f'{THOUGHT}<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{{"city": "Oslo"}}<|call|>'
TOOL = {
    "type": "function",
    "name": "weather",
    "description": "Weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": True,
}
REQUEST: dict[str, Any] = {"model": "tiny", "input": "hi", "temperature": 0}


async def stream(client: httpx.AsyncClient, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a streamed response; each is named by its type, valid for the SDK, and numbered."""
    response = await client.post("/v1/responses", json=body | {"stream": True})
    assert response.status_code == 200, response.text
    events = []
    for text in response.text.replace(HEARTBEAT, "").split("\n\n")[:-1]:
        name, data = text.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
        EVENT.validate_python(events[-1])
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


async def test_whole_answer_is_openais_response(make_model: ModelFactory) -> None:
    async with client_of(make_model(ANSWER)) as client:
        answer = await post(client, "/v1/responses", REQUEST | {"instructions": "Be brief.", "metadata": {"a": "b"}})
    response = Response.model_validate(answer, strict=True)
    assert [item.type for item in response.output] == ["reasoning", "message"]
    assert response.output_text == "Héllo \U0001f389!"
    assert response.status == "completed"
    assert (response.instructions, response.metadata, response.store) == ("Be brief.", {"a": "b"}, False)  # type: ignore[attr-defined]
    assert response.usage is not None
    assert response.usage.input_tokens + response.usage.output_tokens == response.usage.total_tokens
    assert response.usage.output_tokens_details.reasoning_tokens > 0
    reasoning = response.output[0]
    assert reasoning.type == "reasoning"
    assert reasoning.content is not None
    assert (reasoning.content[0].text, reasoning.summary) == ("Think.", [])


async def test_both_routes_have_one_path_to_the_engine(make_model: ModelFactory) -> None:
    chat = {"messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "hi"}]}
    async with client_of(make_model(ANSWER)) as client:
        answer = await post(client, "/v1/responses", REQUEST | {"instructions": "Be brief."})
        completion = await post(client, "/v1/chat/completions", {"model": "tiny", "temperature": 0} | chat)
    assert answer["usage"]["input_tokens"] == completion["usage"]["prompt_tokens"]
    assert answer["usage"]["output_tokens"] == completion["usage"]["completion_tokens"]


async def test_reasoning_that_comes_back_is_rendered_before_its_call(make_model: ModelFactory) -> None:
    """The prompt is that of a chat with `reasoning_content`."""
    chat_tool = {"type": "function", "function": {name: value for name, value in TOOL.items() if name != "type"}}
    async with client_of(make_model(CALL, ANSWER, CALL, ANSWER, options=OPTIONS)) as client:
        first = await post(client, "/v1/responses", REQUEST | {"tools": [TOOL]})
        result = {"type": "function_call_output", "call_id": first["output"][-1]["call_id"], "output": "sunny"}
        items = [{"role": "user", "content": "hi"}, *first["output"], result]
        second = await post(client, "/v1/responses", REQUEST | {"tools": [TOOL], "input": items})
        chat: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "tools": [chat_tool]}
        message = (await post(client, "/v1/chat/completions", chat))["choices"][0]["message"]
        assert message["reasoning_content"] == "Think."
        chat["messages"] += [
            message,
            {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "sunny"},
        ]
        completion = await post(client, "/v1/chat/completions", chat)
        without = await post(
            client, "/v1/responses", REQUEST | {"tools": [TOOL], "input": [items[0], *first["output"][1:], result]}
        )
    assert second["usage"]["input_tokens"] == completion["usage"]["prompt_tokens"]
    assert second["usage"]["input_tokens"] > without["usage"]["input_tokens"]


@pytest.mark.parametrize("summary", [None, "auto"])
@pytest.mark.parametrize("reply", [ANSWER, CALL])
async def test_replayed_events_are_the_whole_answer(make_model: ModelFactory, reply: str, summary: str | None) -> None:
    body = REQUEST | {"tools": [TOOL], "reasoning": {"summary": summary, "effort": "low"}}
    async with client_of(make_model(reply, options=OPTIONS)) as client:
        events = await stream(client, body)
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1]["type"] == "response.completed"
    final = events[-1]["response"]
    assert replay(events) == final["output"]
    assert events[0]["response"]["output"] == []
    assert final["reasoning"] == {"effort": "low", "summary": summary}
    assert final["output"][0]["summary" if summary else "content"][0]["text"] == "Think."


async def test_logprobs_are_included_on_request(make_model: ModelFactory) -> None:
    model = make_model(ANSWER, options=OPTIONS)
    model.engine = WithLogprobs(model.engine)  # type: ignore[assignment]
    body = REQUEST | {"include": ["message.output_text.logprobs", "reasoning.encrypted_content"], "top_logprobs": 2}
    async with client_of(model) as client:
        events = await stream(client, body)
        answer = await post(client, "/v1/responses", body)
    assert replay(events) == events[-1]["response"]["output"]
    part = answer["output"][1]["content"][0]
    assert bytes(byte for entry in part["logprobs"] for byte in entry["bytes"]).decode() == part["text"]
    assert {len(entry["top_logprobs"]) for entry in part["logprobs"]} == {2}
    assert answer["output"][0]["encrypted_content"] is None
    Response.model_validate(answer, strict=True)


async def test_obfuscation_hides_the_length_of_deltas(make_model: ModelFactory) -> None:
    async with client_of(make_model(ANSWER)) as client:
        plain = await stream(client, REQUEST)
        padded = await stream(client, REQUEST | {"stream_options": {"include_obfuscation": True}})
    assert all(event.get("obfuscation") is None for event in plain)
    deltas = [event for event in padded if event["type"].endswith(".delta")]
    assert deltas
    assert {(len(event["delta"]) + len(event["obfuscation"])) % 32 for event in deltas} == {0}


async def test_a_limit_makes_the_answer_incomplete(make_model: ModelFactory) -> None:
    async with client_of(make_model(ANSWER)) as client:
        answer = await post(client, "/v1/responses", REQUEST | {"max_output_tokens": 3})
        events = await stream(client, REQUEST | {"max_output_tokens": 9})
    assert (answer["status"], answer["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert events[-1]["type"] == "response.incomplete"
    assert events[-1]["response"]["output"][-1]["status"] == "incomplete"
    assert replay(events) == events[-1]["response"]["output"]


async def test_an_engine_that_dies_ends_the_stream_with_failed(make_model: ModelFactory) -> None:
    async with client_of(make_model(ANSWER, crash_after_tokens=6)) as client:
        events = await stream(client, REQUEST)
    assert events[-1]["type"] == "response.failed"
    failed = events[-1]["response"]
    assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")
    assert replay(events) == failed["output"]


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools.0", "responses.ignored_tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "web_search"}}, "tool_choice", "web_search"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice", "weather"),
        ({"background": True}, "background", "background"),
        ({"truncation": "auto"}, "truncation", "disabled"),
        ({"conversation": "conv_1"}, "conversation", "not supported"),
        ({"store": True}, "store", "responses.store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id", "responses.store"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input.0", "responses.store"),
        ({"input": [{"type": "computer_call"}]}, "input.0", "computer_call"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input.0.content.0", "input_image"),
        ({"input": [{"role": "user", "content": "a", "x": 1}]}, "input.0.x", "Unknown"),
        (
            {
                "input": [
                    {"role": "user", "content": "a"},
                    {"type": "function_call_output", "call_id": "c", "output": "x"},
                ]
            },
            "input.1",
            "answers no call",
        ),
        ({"input": []}, "input", "input"),
        ({"max_output_tokens": 10**6}, "max_output_tokens", "max_output_tokens"),
        ({"text": {"format": {"type": "xml"}}}, "text.format", "json_schema"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema", "Missing"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort", "must be"),
        ({"stream": 1}, "stream", "boolean"),
    ],
)
async def test_what_cannot_be_honoured_is_refused_by_name(
    make_model: ModelFactory, body: dict[str, Any], param: str, words: str
) -> None:
    async with client_of(make_model(ANSWER, options=OPTIONS)) as client:
        answer = await client.post("/v1/responses", json=REQUEST | body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param
    assert words in error["message"]


async def test_labels_and_nulls_are_taken(make_model: ModelFactory) -> None:
    labels = {
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "client_metadata": {"x": 1},
        "service_tier": "auto",
        "truncation": "disabled",
        "background": False,
        "store": False,
        "max_tool_calls": 3,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "conversation": None,
        "prompt": None,
        "text": {"format": None, "verbosity": "medium"},
        "reasoning": {"effort": None, "summary": None},
        "include": ["file_search_call.results"],
    }
    async with client_of(make_model(ANSWER)) as client:
        answer = await post(client, "/v1/responses", REQUEST | labels)
    assert (answer["user"], answer["prompt_cache_key"]) == ("u", "k")


async def test_configured_tools_are_left_out(make_model: ModelFactory) -> None:
    model = make_model(ANSWER, options=OPTIONS)
    api = create_api(model, ApiOptions(ignored_tools=("web_search", "namespace")))
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    tools = [{"type": "web_search"}, TOOL, {"type": "namespace", "name": "x", "tools": []}]
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await post(client, "/v1/responses", REQUEST | {"tools": tools})
    assert [tool["name"] for tool in answer["tools"]] == ["weather"]
