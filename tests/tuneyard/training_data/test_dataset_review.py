"""A review decides about every row by the severities of its problems, and counts what it finds and drops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tuneyard.chats.dataset import DatasetScan
from tuneyard.chats.row_settings import RowSettings
from tuneyard.core.errors import DatasetError
from tuneyard.training_data.dataset_review import DatasetReview, ReviewedRow
from tuneyard.training_data.row_checks import MAX_CHARACTERS, RowChecker

TOOL = {"type": "function", "function": {"name": "tide", "parameters": {"type": "object", "required": ["port"]}}}


def chat(asked: str, answered: str = "a", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}], **more}


def review(folder: Path, rows: list[Any], **settings: Any) -> tuple[DatasetReview, list[ReviewedRow]]:
    (folder / "c.jsonl").write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    found = DatasetReview(str(folder / "c.jsonl"), RowSettings.model_validate(settings), RowChecker())
    return found, list(found)


def kinds(rows: list[ReviewedRow]) -> list[tuple[str, str]]:
    return [(problem.kind, severity) for row in rows for problem, severity in row.problems]


def calling(calls: int, arguments: str = "{}") -> dict[str, Any]:
    call = {"type": "function", "function": {"name": "tide", "arguments": arguments}}
    return chat("q") | {"messages": [chat("q")["messages"][0], {"role": "assistant", "tool_calls": [call] * calls}]}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (chat("q"), []),
        (chat("q") | {"messages": chat("q")["messages"][:1]}, [("no_assistant_turn", "error")]),
        (chat("q", "a\x07"), [("control_character", "warning")]),
        (chat("q <|end|>"), [("special_token_text", "note")]),
        (chat("q", "<think>x</think>a"), [("text_markup", "error")]),
        (chat("q", colour="blue"), [("unknown_column", "warning")]),
        (chat("q", images=["x.png"]), [("meaningful_column", "error")]),
        (chat("q", label="good"), [("meaningful_column", "error")]),
        (chat("q", weight=0.5), [("meaningful_column", "error")]),
        (chat("q", weight=1, id=7, source="web"), []),
        (chat("q", system="s", system_prompt="t"), [("given_twice", "error")]),
        (chat("q", reasoning="Hm.", thinking="No."), [("given_twice", "error")]),
        (chat("q", reasoning="on"), []),
        (chat("q", metadata='{"k": 1}'), []),
        (chat("q", score=float("nan")), [("nan_metadata", "note")]),
        (chat("q", system=float("nan")), [("nan_value", "error")]),
        ({"prompt": "q", "completion": float("nan")}, [("nan_value", "error")]),
        (chat("q", text="<user>q</user><assistant>a</assistant>"), [("repeated_column", "note")]),
        (chat("q", question="q", answer="a"), []),
        (chat("q", tools=[TOOL, TOOL]), [("duplicate_tool", "error")]),
        (
            chat("q", tools=[{"function": {"name": f"tool{number}"}} for number in range(129)]),
            [("too_many_tools", "error")],
        ),
        (calling(1) | {"tools": [TOOL]}, [("missing_argument", "warning")]),
        (calling(1, '{"port": 1, "port": 2}') | {"tools": [TOOL]}, [("duplicate_key", "error")]),
        (calling(1, '{"port": {"k": 1, "k": 1}}') | {"tools": [TOOL]}, [("duplicate_key", "error")]),
        (calling(2) | {"tools": [TOOL]}, [("unanswered_calls", "error")]),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, [("preference_pair", "error")]),
        ({"prompt": "q", "completion": "a", "label": False}, [("preference_pair", "error")]),
        ('{"messages": [], "messages": []}', [("duplicate_key", "error"), ("role_order", "error")]),
        ('{"messages": [{"role": "user", "content": "\\ud83d"}, {"role": "assistant", "content": "a"}]}',
         [("lone_surrogate", "error")]),
        (chat("q" * (MAX_CHARACTERS + 1)), [("very_long", "warning")]),
        ({"foo": 1}, [("unknown_format", "error")]),
    ],
)  # fmt: skip
def test_each_kind_has_its_severity(tmp_path: Path, row: Any, expected: list[tuple[str, str]]) -> None:
    _, rows = review(tmp_path, [row])
    assert kinds(rows) == expected
    assert (rows[0].example is None) == any(severity == "error" for _, severity in expected)


def test_a_row_that_cannot_be_parsed_is_an_error(tmp_path: Path) -> None:
    assert kinds(review(tmp_path, [chat("q"), "{"])[1]) == [("unreadable", "error")]


def test_columns_are_used_as_what_they_are(tmp_path: Path) -> None:
    row = chat("q", system="Be kind.", reasoning="Hm.", functions=[TOOL["function"]], train=False)
    _, rows = review(tmp_path, [row, chat("r")])
    example = rows[0].example
    assert example is not None
    assert [(m.role, m.content, m.reasoning_content, m.weight) for m in example.messages] == [
        ("system", "Be kind.", None, None),
        ("user", "q", None, None),
        ("assistant", "a", "Hm.", 0),
    ]
    assert [tool.function.name for tool in example.tools] == ["tide"]
    assert kinds(rows) == [("no_trained_turn", "warning")]


def test_weights_of_sharegpt_turns(tmp_path: Path) -> None:
    turns = [
        {"from": "human", "value": "q"},
        {"from": "gpt", "value": "wrong", "weight": 0},
        {"from": "human", "value": "q"},
        {"from": "gpt", "value": "wrong", "train": False},
        {"from": "human", "value": "q"},
        {"from": "gpt", "value": "right", "loss": True},
    ]
    _, (row,) = review(tmp_path, [{"conversations": turns}])
    assert row.example is not None
    assert [m.weight for m in row.example.messages if m.role == "assistant"] == [0, 0, 1]


def test_a_dataset_without_a_trained_turn_is_an_error(tmp_path: Path) -> None:
    untrained = chat("q")
    untrained["messages"][1]["weight"] = 0
    found, rows = review(tmp_path, [untrained])
    assert kinds(rows) == [("no_trained_turn", "warning"), ("nothing_to_learn", "error")]
    assert found.counts.total("error") == 1
    assert kinds(review(tmp_path, [untrained, chat("r")])[1]) == [("no_trained_turn", "warning")]


def test_conflicting_answers_and_duplicates(tmp_path: Path) -> None:
    rows = [chat("q", "a"), chat("q", "b"), chat("r"), chat("q", "a")]
    _, found = review(tmp_path, rows)
    assert [(row.where[-1], problem.kind) for row in found for problem, _ in row.problems] == [
        ("2", "conflicting_answers"),
        ("4", "duplicate"),
    ]
    assert "has another answer in row or line 1" in found[1].problems[0][0].text


def test_rows_are_dropped_by_name_and_counted(tmp_path: Path) -> None:
    rows = [chat("q"), "{", chat("q"), chat("r", colour="blue"), chat("s")]
    problems = {"duplicate": "drop", "unreadable": "drop", "unknown_column": "drop"}
    found, reviewed = review(tmp_path, rows, problems=problems)
    assert dict(found.counts.dropped) == {"unreadable": 1, "duplicate": 1, "unknown_column": 1}
    assert (found.rows_read, found.rows, found.dropped) == (5, 2, frozenset({1, 2, 3}))
    assert [row.example is not None for row in reviewed] == [True, False, False, False, True]
    scan = DatasetScan(str(tmp_path / "c.jsonl"), RowSettings(problems=problems), found.dropped)
    assert [example.messages[0].content for example in scan] == ["q", "s"]
    assert scan.fingerprint == found.fingerprint


def test_a_problem_can_be_raised_lowered_and_ignored(tmp_path: Path) -> None:
    row = chat("q <|end|>", "a\x07", images=["x.png"])
    found, reviewed = review(
        tmp_path,
        [row],
        problems={"special_token_text": "error", "control_character": "ignore", "meaningful_column": "note"},
    )
    assert sorted(kinds(reviewed)) == [("meaningful_column", "note"), ("special_token_text", "error")]
    assert (found.counts.total("error"), found.counts.total("note"), found.counts.total("warning")) == (1, 1, 0)


def test_dropping_every_row_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"every row was left out: 2 × unreadable"):
        review(tmp_path, ["{x", "}"], problems={"unreadable": "drop"})


def test_kto_rows_of_the_other_half_are_dropped(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "completion": answer, "label": label} for answer, label in (("a", True), ("b", False))]
    found, reviewed = review(tmp_path, rows, preference="rejected")
    assert dict(found.counts.dropped) == {"other_half": 1}
    assert [row.example.last_answer.content for row in reviewed if row.example] == ["b"]
