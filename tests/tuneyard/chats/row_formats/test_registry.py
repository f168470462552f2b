"""Formats are detected by their columns, named with the dataset that has them, and refuse what they cannot read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tuneyard.chats.row_formats.names import DatasetFormat
from tuneyard.chats.row_formats.registry import describe_format, detect_format
from tuneyard.chats.row_reader import parse_chat_row
from tuneyard.chats.row_settings import RowSettings

PAIR = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


@pytest.mark.parametrize(
    ("row", "name", "title"),
    [
        ({"messages": PAIR, "label": True}, "kto", "KTO"),
        ({"messages": PAIR, "label": "sports"}, "openai", "OpenAI chat"),
        ({"messages": PAIR, "chosen": PAIR, "rejected": PAIR}, "preference", "preference pairs (DPO)"),
        ({"messages": PAIR, "prompt": "q", "prompt_id": "1"}, "openai", "UltraChat, OpenAI chat"),
        ({"question": "q", "answer": "2 + 2 = 4\n#### 4"}, "question_answer", "gsm8k"),
        ({"prompt": "q", "response": "a"}, "question_answer", "question and answer"),
        ({"input": PAIR[:1], "output": "a"}, "nemotron", "Llama-Nemotron post-training"),
        ({"input": "q", "output": "a"}, None, ""),
        ({"message_tree_id": "1", "parent_id": "2", "text": "t", "role": "assistant"}, "oasst", "OpenAssistant trees"),
        ([1], None, ""),
    ],
)
def test_detection(row: Any, name: DatasetFormat | None, title: str) -> None:
    assert detect_format(row) == name
    if name is not None:
        assert describe_format(name, row) == title


@pytest.mark.parametrize(
    ("row", "name", "kind", "text"),
    [
        ({"instruction": None, "output": "o"}, "alpaca", "wrong_format", "expected a text `instruction`, found None"),
        ({"instruction": ["i"], "output": "o"}, "alpaca", "wrong_format", "expected a text `instruction`"),
        (
            {"instruction": "i", "output": "o", "history": 3},
            "alpaca",
            "wrong_format",
            "expected a list `history`, found 3",
        ),
        (
            {"conversations": [{"from": "human", "value": "q"}], "tools": [1]},
            "sharegpt",
            "wrong_format",
            "expected objects in `tools`, found 1",
        ),
        ({"context": "c", "question": "q", "answers": 5}, "squad", "wrong_format", "expected texts in `answers`"),
        (
            {"message_tree_id": "1", "text": "t", "role": "assistant"},
            "oasst",
            "wrong_format",
            "the row is one message of a tree, not a tree",
        ),
        ({"messages": [{"role": "user", "content": 5}]}, "openai", "wrong_field", "messages.0.content"),
        (
            {"messages": [{"role": "assistant", "content": "a", "refusal": "b"}]},
            "openai",
            "given_twice",
            "message 1: has both `content` and `refusal`",
        ),
        (
            {"messages": '[{"role": "user", "role": "system", "content": "q"}]'},
            "openai",
            "given_twice",
            "has the key 'role' twice",
        ),
        ({"messages": PAIR, "tools": [{"name": "t", "parameters": {"n": float("nan")}}]}, "openai", "nan_value", "NaN"),
        ({"data": ["q", 1]}, "ultrachat", "wrong_format", "expected texts in `data`, found 1"),
    ],
)
def test_what_cannot_be_read_is_named(row: Any, name: DatasetFormat, kind: str, text: str) -> None:
    read = parse_chat_row(row, "f:1", name, RowSettings())
    assert read.example is None
    assert (read.problems[0].kind, text in read.problems[0].text) == (kind, True), read.problems


def test_calls_spelled_as_python_are_never_evaluated(tmp_path: Path) -> None:
    target = tmp_path / "made"
    system = 'list of functions in JSON format that you can invoke: [{"name": "f"}]'
    call = f"[f(x=open({str(target)!r}, 'w'))]"
    row = {"system": system, "conversations": [{"from": "user", "value": "q"}, {"from": "assistant", "value": call}]}
    read = parse_chat_row(row, "f:1", "toolace", RowSettings())
    assert read.example is not None
    assert read.example.messages[-1].content == call
    assert [problem.kind for problem in read.problems] == ["replaced_text", "text_markup"]
    assert "spells calls that cannot be read" in read.problems[1].text
    assert not target.exists()
