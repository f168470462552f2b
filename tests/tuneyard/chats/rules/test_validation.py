"""Rules for messages: the order of roles, and calls with their results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tuneyard.chats.dataset import load_chat_dataset
from tuneyard.chats.rules.validation import find_order_problem
from tuneyard.core.errors import DatasetError

TOOL = {"type": "function", "function": {"name": "now", "description": "Time", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": '{"zone": "UTC"}'}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tools": []}, r"message 2 calls 'now', which `tools` does not declare \(declared: none\)"),
        ({"arguments": "{zone: UTC}"}, r"message 2 calls 'now' with arguments that are not a JSON object"),
        ({"result_id": "other"}, r"message 3 \(tool\) answers 'other', but the open call is 'c1'"),
        ({"calls": 2}, r"message 2 has two calls with the id 'c1'"),
        ({"result": False}, r"message 3 has role 'assistant' where 'user' or 'tool' belongs"),
    ],
)
def test_wrong_calls_are_problems(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    call = CALL | {"function": {"name": "now", "arguments": change.get("arguments", "{}")}}
    result = {"role": "tool", "tool_call_id": change.get("result_id", "c1"), "content": "12:00"}
    messages = [
        {"role": "user", "content": "time?"},
        {"role": "assistant", "tool_calls": [call] * change.get("calls", 1)},
        *([result] if change.get("result", True) else []),
        {"role": "assistant", "content": "Noon."},
    ]
    row = {"messages": messages, "tools": change.get("tools", [TOOL])}
    (tmp_path / "c.jsonl").write_text(json.dumps(row))
    with pytest.raises(DatasetError, match=message):
        load_chat_dataset(str(tmp_path / "c.jsonl"))


def test_order_of_roles() -> None:
    right = ["system", "user", "assistant", "tool", "assistant", "user", "assistant"]
    assert find_order_problem(right) is None
    assert find_order_problem(right[:4]) == "the last message has role 'tool', it must be 'assistant'"
    assert find_order_problem(["user", "tool"]) == "message 2 has role 'tool' where 'assistant' belongs"
