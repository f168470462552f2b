"""JSON and JSONL: tables in one object become rows; what cannot be read names its row."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from tuneyard.chats.readers.json_rows import read_json, read_jsonl
from tuneyard.chats.readers.raw_row import RawRow
from tuneyard.core.errors import DatasetError

ROWS = [{"instruction": "a", "output": "b"}, {"instruction": "c", "output": "d"}]
NUMBER = "7" * 5000


def json_rows(value: Any, text: str | None = None) -> list[RawRow]:
    data = (json.dumps(value) if text is None else text).encode()
    return list(read_json(io.BytesIO(data), "t.json", len(data)))


def jsonl_rows(text: str) -> list[RawRow]:
    return list(read_jsonl(io.BytesIO(text.encode()), "t.jsonl"))


@pytest.mark.parametrize(
    "table",
    [
        {"instruction": {"0": "a", "1": "c"}, "output": {"0": "b", "1": "d"}},
        {"columns": ["instruction", "output"], "index": [0, 1], "data": [["a", "b"], ["c", "d"]]},
        {"0": ROWS[0], "1": ROWS[1]},
        {"schema": {"fields": []}, "data": ROWS},
        {"instruction": ["a", "c"], "output": ["b", "d"]},
        ROWS,
    ],
    ids=["pandas columns", "pandas split", "pandas index", "pandas table", "datasets to_dict", "pandas records"],
)
def test_a_table_becomes_rows(table: Any) -> None:
    assert [(row.where, row.value) for row in json_rows(table)] == [("t.json[1]", ROWS[0]), ("t.json[2]", ROWS[1])]
    if "instruction" not in table or isinstance(table["instruction"], dict):
        assert [row.value for row in jsonl_rows(json.dumps(table))] == (ROWS if isinstance(table, dict) else [ROWS])


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "q"}], "tools": [{"type": "function"}]},
        {"messages": ['{"role": "user"}'], "tools": ['{"type": "function"}']},
        {"id": "0", "data": ["question", "answer"]},
        {"prompt": [{"role": "user"}], "completion": [{"role": "assistant"}]},
        {"context": {"a": 1}, "question": {"b": 2}},
    ],
)
def test_a_row_that_holds_lists_or_objects_stays_one_row(row: Any) -> None:
    assert [read.value for read in json_rows(row)] == [row]
    assert [read.value for read in jsonl_rows(json.dumps(row))] == [row]


def test_squads_nested_form_keeps_what_stands_beside_the_questions() -> None:
    question = {"id": "q1", "question": "Who?", "answers": [{"text": "Ann", "answer_start": 0}], "is_impossible": False}
    article = {"title": "Ann", "paragraphs": [{"context": "Ann ran.", "qas": [question]}]}
    (row,) = json_rows({"version": "2.0", "data": [article]})
    assert row.value == question | {"title": "Ann", "context": "Ann ran.", "answers": {"text": ["Ann"]}}


def test_an_integer_that_python_does_not_read_is_named_with_its_row() -> None:
    good = json.dumps(ROWS[0])
    rows = jsonl_rows(f'{good}\n{{"n": {NUMBER}}}\n{good}')
    assert [row.problem for row in rows] == [
        None,
        "an integer has more digits than Python reads (4,300). Write it as text.",
        None,
    ]
    assert [row.where for row in json_rows(None, f'[{good}, {{"n": {NUMBER}}}]') if row.problem] == ["t.json[2]"]
    with pytest.raises(DatasetError, match=r"t.json: an integer has more digits than Python reads"):
        json_rows(None, f'{{"n": {NUMBER}}}')


def test_repeated_keys_are_reported_with_their_row() -> None:
    text = '{"output": "a", "output": "b", "m": {"k": 1, "k": 1}}'
    (row,) = jsonl_rows(text)
    assert row.repeated_keys == ("k", "output")
    rows = json_rows(None, f'[{{"output": "a"}}, {text}]')
    assert [(read.where, read.repeated_keys) for read in rows] == [("t.json[1]", ()), ("t.json[2]", ("k", "output"))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{'prompt': 'a'}", "This is Python's repr; write it with json.dumps."),
        ('{"prompt": "a"', "Write one complete object per line."),
        ('{"a": 1} {"a": 2}', "not valid JSON at column 10: Extra data."),
    ],
)
def test_a_broken_line_says_what_to_do(text: str, message: str) -> None:
    (row,) = jsonl_rows(text)
    assert message in str(row.problem)


def test_jsonl_in_a_json_file_is_read_and_objects_over_many_lines_are_refused() -> None:
    lines = "\n".join(map(json.dumps, ROWS))
    assert [(row.where, row.value) for row in json_rows(None, lines)] == [("t.json:1", ROWS[0]), ("t.json:2", ROWS[1])]
    with pytest.raises(DatasetError, match=r"t.json:5: another JSON value follows at column 1.*jq -c . t.json"):
        json_rows(None, "\n".join(json.dumps(row, indent=1) for row in ROWS))
