"""Requests of /v1/responses: nulls and labels are taken, types are exact, and errors name the parameter."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneyard.api.wire.responses.request import ResponsesRequest
from tuneyard.core.errors import RequestError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "role", "content", "id", "text", "name"]), inner, max_size=4)
    ),
    max_leaves=8,
)
TYPES = st.sampled_from(["message", "function_call", "function_call_output", "reasoning", "item_reference", "x"])
ITEMS = st.dictionaries(st.sampled_from(["role", "content", "output", "call_id", "summary", "id"]), JSON, max_size=4)


def parse(**fields: Any) -> ResponsesRequest:
    return ResponsesRequest.parse({"model": "m", "input": "hi"} | fields)


@settings(max_examples=400, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "input": JSON | st.lists(st.builds(lambda kind, item: {"type": kind} | item, TYPES, ITEMS), max_size=3),
            "tools": JSON | st.lists(ITEMS, max_size=2),
            "tool_choice": JSON,
            "text": JSON,
            "reasoning": JSON,
            "include": JSON,
            "metadata": JSON,
            "stream_options": JSON,
            "max_output_tokens": JSON,
        },
    )
)
def test_any_json_is_a_request_or_an_error_that_names_its_parameter(body: dict[str, Any]) -> None:
    try:
        request = ResponsesRequest.parse({"model": "m"} | body)
    except RequestError as e:
        assert e.param
        assert "-type" not in e.message
        assert "-shape" not in e.message
    else:
        assert request.input_items or request.previous_response_id


def test_a_text_is_a_users_message() -> None:
    (item,) = parse().input_items
    assert item.model_dump(exclude_none=True) == {"type": "message", "role": "user", "content": "hi"}


@pytest.mark.parametrize(
    "item",
    [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "phase": "final_answer"}
        | {"content": [{"type": "output_text", "text": "a", "annotations": [], "logprobs": None}]},
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"type": "function_call", "id": None, "call_id": "c", "name": "f", "arguments": "{}", "namespace": None},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "caller": {"type": "direct"}},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "a"}]},
        {"type": "reasoning", "id": "rs", "summary": [], "content": None, "encrypted_content": None, "status": None},
        {"type": "item_reference", "id": "msg_1"},
    ],
)
def test_items_are_taken_as_clients_send_them(item: dict[str, Any]) -> None:
    assert len(parse(input=[item]).input_items) == 1


def test_ignored_tools_are_left_out_and_others_refused() -> None:
    tools = [{"type": "web_search"}, {"type": "function", "name": "f", "parameters": {}, "strict": False}]
    request = ResponsesRequest.parse({"model": "m", "input": "hi", "tools": tools}, ["web_search"])
    assert [tool.name for tool in request.tools] == ["f"]
    with pytest.raises(RequestError, match=r"web_search.*responses\.ignored_tools"):
        parse(tools=tools)


@pytest.mark.parametrize("count", [16, 17])
def test_metadata_has_openais_limits(count: int) -> None:
    metadata = {str(number): "x" for number in range(count)}
    if count == 16:
        assert parse(metadata=metadata).metadata == metadata
    else:
        with pytest.raises(RequestError, match="metadata"):
            parse(metadata=metadata)
