"""`data.columns`: columns and templates become the parts of a chat; what a template may hold is checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tuneyard.chats.row_reader import ChatRowReader, ReadRow
from tuneyard.chats.row_settings import RowSettings

QA = {"question": "Where is Bern?", "answer": "In Switzerland.", "context": "Swiss cities", "year": 1191}


def read(folder: Path, row: dict[str, Any], columns: dict[str, str]) -> ReadRow:
    (folder / "c.jsonl").write_text(json.dumps(row))
    (found,) = ChatRowReader(str(folder / "c.jsonl"), RowSettings(columns=columns))
    return found


def test_columns_become_the_parts_of_a_chat(tmp_path: Path) -> None:
    row = read(tmp_path, QA, {"prompt": "question", "completion": "answer", "system": "context"})
    assert row.example is not None
    assert [(m.role, m.content) for m in row.example.messages] == [
        ("system", "Swiss cities"),
        ("user", "Where is Bern?"),
        ("assistant", "In Switzerland."),
    ]
    assert [problem.text for problem in row.problems] == ["`year` is not used: 1191."]


def test_templates_hold_columns_and_text(tmp_path: Path) -> None:
    row = read(
        tmp_path, QA, {"prompt": "{{ctx}} {context}, {year}:\n{question}", "completion": "answer", "reasoning": "why"}
    )
    assert row.example is not None
    assert row.example.messages[0].content == "{ctx} Swiss cities, 1191:\nWhere is Bern?"
    assert row.example.messages[1].reasoning_content is None
    assert row.problems == ()


@pytest.mark.parametrize("value", [None, "", float("nan")])
def test_a_required_column_must_hold_something(tmp_path: Path, value: object) -> None:
    row = read(tmp_path, QA | {"answer": value}, {"prompt": "question", "completion": "answer"})
    assert "data.columns.completion needs the column `answer`, which is missing or empty" in row.problems[0].text


def test_a_column_with_the_name_of_a_part_is_kept_and_named(tmp_path: Path) -> None:
    row = read(tmp_path, QA | {"prompt": "other"}, {"prompt": "question", "completion": "answer"})
    assert "`prompt (column)` is not used: 'other'." in [problem.text for problem in row.problems]


def test_messages_and_preferences_can_be_mapped(tmp_path: Path) -> None:
    dialog = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    assert read(tmp_path, {"dialog": dialog}, {"messages": "dialog"}).example is not None
    row = read(tmp_path, {"q": "q", "good": "a", "bad": "b"}, {"prompt": "q", "chosen": "good", "rejected": "bad"})
    assert row.problems[0].kind == "preference_pair"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"answer": "a", "prompt": "p"}, "'answer' is no part of a chat"),
        ({"prompt": "p"}, "It needs `prompt` and `completion`, or `messages`"),
        ({"prompt": "", "completion": "c"}, "prompt names no column"),
        ({"prompt": "{a!r}", "completion": "c"}, "may hold only"),
        ({"prompt": "{a:>9}", "completion": "c"}, "may hold only"),
        ({"prompt": "{}", "completion": "c"}, "may hold only"),
        ({"prompt": "{a", "completion": "c"}, "is not valid"),
    ],
)
def test_wrong_mappings_are_refused(columns: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RowSettings(columns=columns)


def test_a_template_reads_no_attributes(tmp_path: Path) -> None:
    row = read(tmp_path, QA, {"prompt": "{question.__class__}", "completion": "answer"})
    assert "needs the column `question.__class__`" in row.problems[0].text
