"""Anonymous prompts: the same shape, accepted by the served API, and no word of the rows."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tuneyard.api.wire.chat_request import RenderRequest
from tuneyard.chats.dataset import load_chat_dataset
from tuneyard.chats.messages import ChatMessage, ChatTool, FunctionCall, ToolCall
from tuneyard.harmony.anonymous_prompts import anonymise_prompt
from tuneyard.harmony.parity_rows import ParityRow

SCHEMA = {
    "type": "object",
    "description": "A voyage from Whitby",
    "properties": {
        "port": {"type": "string", "enum": ["Whitby", "Ayr"], "default": "Ayr", "description": "Harbour"},
        "days": {"$ref": "#/$defs/Days"},
        "note": {"anyOf": [{"type": "string", "pattern": "^[a-z]+$"}, {"type": "null"}]},
        "type": {"const": "Voyage"},
    },
    "required": ["port", "days"],
    "dependentRequired": {"note": ["days"]},
    "$defs": {"Days": {"type": "array", "items": {"type": "integer", "minimum": 1}, "maxItems": 7}},
    "additionalProperties": False,
}
TOOLS = tuple(
    ChatTool.model_validate({"function": {"name": name, "description": "Tides of Whitby", "parameters": SCHEMA}})
    for name in ("tide_table", "tide_chart")
)
MESSAGES = (
    ChatMessage(role="developer", content="You are Captain Ahab."),
    ChatMessage(role="user", content="Tides at Whitby? <|end|>"),
    ChatMessage(
        role="assistant",
        reasoning_content="Ask the harbour.",
        tool_calls=(
            ToolCall(
                id="secret-id",
                function=FunctionCall(
                    name="tide_table", arguments='{"port": "Whitby\\n\\u2603 \\u4f60", "days": [1, 20], "ok": true}'
                ),
            ),
        ),
    ),
    ChatMessage(role="tool", tool_call_id="secret-id", content='{"high": "04:10"}'),
)
WORDS = set(re.findall(r"\w{4,}", json.dumps([SCHEMA, *(m.model_dump() for m in MESSAGES)]).lower())) - {
    "type", "object", "description", "properties", "string", "enum", "default", "anyof", "pattern", "null", "const",
    "required", "dependentrequired", "array", "items", "integer", "minimum", "maxitems", "additionalproperties",
    "false", "role", "developer", "content", "user", "assistant", "tool_calls", "reasoning_content", "tool_call_id",
    "function", "name", "arguments", "tool", "true", "weight", "defs", "ref", "_defs", "u2603",
}  # fmt: skip


def shape(value: Any) -> Any:
    """The value with its texts replaced by their lengths, and names by their number."""
    if isinstance(value, dict):
        return [shape(item) for item in value.values()]
    if isinstance(value, list | tuple):
        return [shape(item) for item in value]
    return len(value) if isinstance(value, str) else value


def test_the_shape_stays_and_no_word_does() -> None:
    messages, tools = anonymise_prompt(MESSAGES, TOOLS)
    text = json.dumps([[m.model_dump() for m in messages], [t.model_dump() for t in tools]], ensure_ascii=False)
    assert [word for word in WORDS if word in text.lower()] == []
    assert "secret" not in text
    assert [m.role for m in messages] == [m.role for m in MESSAGES]
    assert [len(m.content) for m in messages] == [len(m.content) for m in MESSAGES]
    assert "<|end|>" in messages[1].content
    assert shape([t.model_dump() for t in tools]) == shape([t.model_dump() for t in TOOLS])


def test_names_agree_everywhere() -> None:
    messages, tools = anonymise_prompt(MESSAGES, TOOLS)
    names = [tool.function.name for tool in tools]
    assert len(set(names)) == 2
    (call,) = messages[2].tool_calls
    assert call.function.name == names[0]
    assert messages[3].tool_call_id == call.id
    schema: Any = tools[0].function.parameters
    port, days, note, _ = schema["properties"]
    assert schema["required"] == [port, days]
    assert schema["dependentRequired"] == {note: [days]}
    assert schema["properties"][port]["default"] == schema["properties"][port]["enum"][1]
    assert schema["properties"][days]["$ref"] == f"#/$defs/{next(iter(schema['$defs']))}"
    arguments = json.loads(call.function.arguments)
    assert [(key, type(value)) for key, value in arguments.items()][:2] == [(port, str), (days, list)]
    assert len(arguments) == 3
    assert "\\u2603" in call.function.arguments
    assert "\\u4f60" not in call.function.arguments


def test_the_demos_rows_keep_no_word_of_their_own() -> None:
    examples = load_chat_dataset("jobs/data/brindle_train.jsonl").examples
    own = {"brindle", "handbook", "kiosk", "quay"} & set(
        re.findall(r"\w+", " ".join(m.content for e in examples for m in e.messages).lower())
    )
    assert own
    text = " ".join(m.content for e in examples for m in anonymise_prompt(e.messages, e.tools)[0]).lower()
    assert [word for word in own if word in text.split()] == []


NAMES = st.text("abAB_-09", min_size=1, max_size=3)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
KEYWORDS = ["properties", "required", "enum", "default", "type", "items", "$ref", "$defs", "description", "x-other"]


@given(
    names=st.lists(NAMES, min_size=1, max_size=12, unique=True),
    schema=st.dictionaries(st.sampled_from(KEYWORDS), VALUES, max_size=4) | st.none(),
    arguments=VALUES.map(json.dumps) | st.text(max_size=9),
    texts=st.lists(st.text(max_size=20), min_size=2, max_size=2),
)
def test_any_prompt_stays_one_that_the_api_accepts(
    names: list[str], schema: dict[str, Any] | None, arguments: str, texts: list[str]
) -> None:
    tools = [ChatTool.model_validate({"function": {"name": name, "parameters": schema}}) for name in names]
    call = ToolCall(id="x", function=FunctionCall(name=names[-1], arguments=arguments))
    messages = [
        ChatMessage(role="user", content=texts[0]),
        ChatMessage(role="assistant", tool_calls=(call,)),
        ChatMessage(role="tool", content=texts[1], tool_call_id="x"),
    ]
    new_messages, new_tools = anonymise_prompt(messages, tools)
    row = ParityRow(messages=new_messages, tools=new_tools, today="2026-01-01", token_ids=())
    RenderRequest.parse(row.request_body("m"))
    new_arguments = new_messages[1].tool_calls[0].function.arguments
    try:
        json.loads(arguments)
    except ValueError:
        assert len(new_arguments) == len(arguments)
    else:
        json.loads(new_arguments)
