"""Validation errors name the parameter and what it must be, in the terms of JSON."""

from __future__ import annotations

from typing import Any

import pytest

from tuneyard.api.wire.chat_request import ChatCompletionRequest
from tuneyard.api.wire.errors import error_body
from tuneyard.api.wire.tokenization import DetokenizeRequest
from tuneyard.core.errors import RequestError

MESSAGES = [{"role": "user", "content": "hi"}]
FUNCTION = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("field", "value", "param", "requirement"),
    [
        ("stop", 5, "stop", "must be an array"),
        ("tools", "f", "tools", "must be an array"),
        ("messages", {}, "messages", "must be an array"),
        ("messages", [], "messages", "must have at least 1 item"),
        ("messages", ["hi"], "messages.0", "must be an object"),
        ("messages", [{"role": "user", "content": 5}], "messages.0.content", "must be a string"),
        ("messages", [{"role": "robot"}], "messages.0.role", "must be 'system', 'developer', 'user', "),
        ("logit_bias", [], "logit_bias", "must be an object"),
        ("temperature", "hot", "temperature", "must be a number"),
        ("temperature", 2.5, "temperature", "must be at most 2"),
        ("top_p", 0, "top_p", "must be greater than 0"),
        ("n", 0, "n", "must be at least 1"),
        ("n", 1.5, "n", "must be an integer"),
        ("stream", "maybe", "stream", "must be a boolean"),
        ("stop", ["a", "b", "c", "d", "e"], "stop", "must have at most 4 items"),
        ("stop", "", "stop", "an empty stop string would end every answer at once"),
        ("seed", 2**63, "seed", "must be less than 9"),
        (
            "response_format",
            {"type": "xml"},
            "response_format",
            "the field 'type' must be one of 'text', 'json_object'",
        ),
        ("response_format", {}, "response_format", "must have a field 'type'"),
        ("tool_choice", "perhaps", "tool_choice", "must be 'none', 'auto' or 'required'"),
        ("max_completion_tokens", 0, "max_completion_tokens", "must be at least 1"),
    ],
)
def test_an_invalid_value_is_named_with_what_it_must_be(field: str, value: Any, param: str, requirement: str) -> None:
    body = {"model": "m", "messages": MESSAGES, field: value}
    with pytest.raises(RequestError) as caught:
        ChatCompletionRequest.parse(body)
    error = error_body(caught.value)["error"]
    assert error["param"] == param
    assert error["code"] == "invalid_value"
    assert error["message"].startswith(f"Invalid value for {param!r}: {requirement}")
    assert "Input" not in error["message"]
    assert "tuple" not in error["message"]


@pytest.mark.parametrize("body", [[], "text", 5, None])
def test_a_body_must_be_an_object(body: Any) -> None:
    for request in (ChatCompletionRequest, DetokenizeRequest):
        with pytest.raises(RequestError, match="The body must be a JSON object"):
            request.parse(body)
