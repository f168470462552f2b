"""Schemas of tools: one that harmony cannot render is a problem of its row; any other is rendered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.chats.messages import ChatExample, ChatMessage, ChatTool
from tuneyard.chats.row_reader import ChatRowReader
from tuneyard.chats.rules.validation import MAX_SCHEMA_DEPTH, find_schema_problem
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["a", "type", "enum"]), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
KEYWORDS = ["properties", "required", "enum", "default", "type", "items", "$ref", "description", "oneOf", "maximum"]


def tool(parameters: dict[str, Any]) -> ChatTool:
    return ChatTool.model_validate({"function": {"name": "t", "parameters": parameters}})


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


@pytest.fixture(scope="module")
def codec(tiny_oss: Path) -> HarmonyCodec:
    return HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())


@given(schema=st.dictionaries(st.sampled_from(KEYWORDS), VALUES, max_size=4), levels=st.integers(0, MAX_SCHEMA_DEPTH))
def test_a_schema_without_a_problem_is_rendered(codec: HarmonyCodec, schema: dict[str, Any], levels: int) -> None:
    tools = (tool(schema), tool(nested(levels)))
    if find_schema_problem(tools) is None:
        assert codec.render([ChatMessage(role="user", content="q")], tools)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (nested(70), "`tools`: the schema of 't' is nested more than 64 levels deep. Simplify it."),
        (nested(90), "`tools`: the schema of 't' is nested more than 64 levels deep. Simplify it."),
        ({"maximum": 10**400}, "`tools`: the schema of 't' holds a number that is too large for JSON readers."),
    ],
)
def test_a_schema_that_cannot_be_rendered_is_named_with_its_row(
    tmp_path: Path, parameters: dict[str, Any], message: str
) -> None:
    chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    declaration = {"type": "function", "function": {"name": "t", "parameters": parameters}}
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps({"messages": chat}) + "\n" + json.dumps({"messages": chat, "tools": [declaration]}))
    good, bad = ChatRowReader(str(path))
    assert isinstance(good.example, ChatExample)
    (problem,) = bad.problems
    assert str(problem).startswith(f"c.jsonl:2: {message}")
