"""An answer of this server is history, wherever a client puts its fields."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tuneyard.api.wire.errors import request_error
from tuneyard.api.wire.messages import RequestMessage

LABELS: dict[str, Any] = {
    "role": "assistant",
    "refusal": None,
    "annotations": [],
    "audio": None,
    "function_call": {},
    "tool_calls": None,
    "parsed": {"sunny": True},
}
"""Fields that OpenAI's SDKs have on an answer beside its text."""


def labels(*without: str) -> st.SearchStrategy[dict[str, Any]]:
    """Some of the LABELS."""
    return st.fixed_dictionaries({}, optional={k: st.just(v) for k, v in LABELS.items() if k not in without})


@given(text=st.text(min_size=1), of_message=labels("role"), of_part=labels(), in_part=st.booleans())
def test_labels_of_message_and_part_change_nothing(
    text: str, of_message: dict[str, Any], of_part: dict[str, Any], in_part: bool
) -> None:
    content = [{"type": "text", "text": text} | of_part] if in_part else text
    message = RequestMessage.model_validate({"role": "assistant", "content": content} | of_message).to_chat_message()
    assert message == RequestMessage(role="assistant", content=text).to_chat_message()


@given(thought=st.text(min_size=1), name=st.sampled_from(("reasoning", "reasoning_content")), in_part=st.booleans())
def test_reasoning_counts_in_message_and_part(thought: str, name: str, in_part: bool) -> None:
    reasoning = {name: thought}
    part = {"type": "text", "text": "a"} | (reasoning if in_part else {})
    message = {"role": "assistant", "content": [part]} | ({} if in_part else reasoning)
    assert RequestMessage.model_validate(message).to_chat_message().reasoning_content == thought


def test_the_reasoning_of_the_message_counts_before_that_of_its_parts() -> None:
    part = {"type": "text", "text": "a", "reasoning_content": "of the part"}
    message = {"role": "assistant", "content": [part], "reasoning_content": "of the message"}
    assert RequestMessage.model_validate(message).to_chat_message().reasoning_content == "of the message"


@pytest.mark.parametrize(
    ("content", "param", "reason"),
    [
        (5, "content", "must be a string"),
        (["a"], "content.0", "must be an object"),
        ([{"type": "image_url", "image_url": {}}], "content.0.type", "must be 'text' or 'refusal'"),
        ([{"type": "text"}], "content.0", "must have a field 'text'"),
        ([{"type": "refusal", "text": "a"}], "content.0", "must have a field 'refusal'"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": 1}], "content.1.text", "must be a string"),
    ],
)
def test_a_wrong_part_is_named(content: Any, param: str, reason: str) -> None:
    with pytest.raises(ValidationError) as refused:
        RequestMessage.model_validate({"role": "user", "content": content})
    error = request_error(refused.value)
    assert (error.param, error.message) == (param, f"Invalid value for {param!r}: {reason}.")
