"""Requests of /v1/responses as chat completion requests."""

from __future__ import annotations

from typing import Any

import pytest

from serve_apps.api.responses.chat_conversion import to_chat_request
from tuneyard.api.wire.responses.request import ResponsesRequest
from tuneyard.core.errors import RequestError

USER = {"role": "user", "content": "Weather?"}
THINK = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Look."}]}
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": None}


def call(number: int, name: str = "weather") -> dict[str, Any]:
    return {"type": "function_call", "call_id": f"c{number}", "name": name, "arguments": "{}", "status": "completed"}


def result(number: int) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": f"c{number}", "output": f"result {number}"}


def said(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}


def converted(*items: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """The messages of the converted request, without the fields that are not set."""
    request = to_chat_request(ResponsesRequest.parse({"model": "m", "input": list(items), "tools": [TOOL]} | more))
    return [message.to_chat_message().model_dump(exclude_defaults=True) for message in request.messages]


def test_the_items_of_one_answer_are_one_message() -> None:
    messages = converted(USER, THINK, said("Let me see."), call(1), result(1), said("Sunny."), USER)
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant", "user"]
    assert (messages[1]["reasoning_content"], messages[1]["content"]) == ("Look.", "Let me see.")
    assert messages[1]["tool_calls"][0]["id"] == messages[2]["tool_call_id"] == "c1"


def test_what_the_sdks_add_to_a_parsed_answer_changes_nothing() -> None:
    parsed_text = said("Sunny.")
    parsed_text["content"][0]["parsed"] = {"sunny": True}
    parsed_call = call(1) | {"parsed_arguments": {"city": "Oslo"}}
    assert converted(USER, parsed_call, result(1), parsed_text, USER) == converted(
        USER, call(1), result(1), said("Sunny."), USER
    )


def test_parallel_calls_are_one_message_with_two_calls() -> None:
    messages = converted(USER, THINK, call(1), call(2), result(2), result(1))
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]
    assert [one["id"] for one in messages[1]["tool_calls"]] == ["c1", "c2"]


def test_each_call_has_the_reasoning_before_it() -> None:
    messages = converted(USER, THINK, call(1), result(1), THINK, call(2), result(2))
    assert [message.get("reasoning_content") for message in messages] == [None, "Look.", None, "Look.", None]


def test_a_summary_counts_as_reasoning_and_encrypted_reasoning_is_left_out() -> None:
    summary = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Look."}]}
    assert converted(USER, summary, call(1), result(1))[1]["reasoning_content"] == "Look."
    encrypted: dict[str, Any] = {"type": "reasoning", "summary": [], "encrypted_content": "gAAA", "content": None}
    assert not converted(USER, encrypted, call(1), result(1))[1].get("reasoning_content")


def test_instructions_come_first() -> None:
    messages = converted({"role": "developer", "content": "Rules."}, USER, instructions="Be brief.")
    assert [(message["role"], message["content"]) for message in messages] == [
        ("developer", "Be brief."),
        ("developer", "Rules."),
        ("user", "Weather?"),
    ]


def test_fields_are_renamed() -> None:
    schema = {"type": "object", "properties": {}}
    request = to_chat_request(
        ResponsesRequest.parse(
            {
                "model": "m",
                "input": "hi",
                "tools": [TOOL | {"name": name} for name in ("a", "b")],
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "required",
                    "tools": [{"type": "function", "name": "b"}],
                },
                "text": {"format": {"type": "json_schema", "name": "x", "schema": schema, "strict": True}},
                "reasoning": {"effort": "minimal"},
                "max_output_tokens": 5,
                "top_logprobs": 2,
                "seed": 3,
            }
        )
    )
    assert request.answer_schema == schema
    assert [tool.function.name for tool in request.callable_tools] == ["b"]
    assert request.requires_call
    assert (request.token_limit, request.top_logprobs, request.logprobs) == (5, 2, True)
    assert (request.reasoning_effort, request.seed) == ("low", 3)


@pytest.mark.parametrize(
    ("items", "param"),
    [
        ((USER, call(1)), "input.1"),
        ((USER, result(1)), "input.1"),
        ((USER, THINK, call(1), result(2)), "input.3"),
    ],
)
def test_errors_name_the_item(items: tuple[dict[str, Any], ...], param: str) -> None:
    with pytest.raises(RequestError) as refused:
        converted(*items)
    assert refused.value.param == param
    assert param in refused.value.message
    assert "messages" not in refused.value.message
