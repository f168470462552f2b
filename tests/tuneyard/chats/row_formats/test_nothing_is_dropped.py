"""Rows with any keys and types: never a traceback, and every value is trained on, harmless metadata, or named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneyard.chats.row_formats.column_names import HARMLESS_COLUMNS, HARMLESS_MESSAGE_FIELDS, MEANINGFUL_COLUMNS
from tuneyard.chats.row_formats.names import FORMATS, QUESTION_ANSWER_COLUMNS, DatasetFormat
from tuneyard.chats.row_formats.registry import detect_format
from tuneyard.chats.row_problems import PROBLEMS
from tuneyard.chats.row_reader import ReadRow, parse_chat_row
from tuneyard.chats.row_settings import RowSettings

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
KEYS = sorted(
    {*MEANINGFUL_COLUMNS, "metadata", "parallel_tool_calls", "message_tree_id", "role", "from", "value", "name"}
    | {key for known in FORMATS.values() for key in known.keys}
    | {key for pair in QUESTION_ANSWER_COLUMNS for key in pair}
)
SETTINGS = st.builds(
    RowSettings,
    text_markup=st.sampled_from(["error", "convert"]),
    preference=st.sampled_from([None, "chosen", "rejected", "pairs"]),
    unanswerable_answer=st.sampled_from([None, "none"]),
)
MARKUP = [
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<|channel|>",
    '{"name": "f", "arguments": {}}',
    "{",
    "x",
]


@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), ANY_JSON, max_size=6), SETTINGS)
@settings(max_examples=300)
def test_any_row_is_a_chat_or_a_named_problem(row: dict[str, Any], row_settings: RowSettings) -> None:
    for name in FORMATS:
        check(parse_chat_row(row, "f:1", name, row_settings))


def any_value_in(part: Any) -> st.SearchStrategy[Any]:
    """The part with one of its values, at any depth, replaced by any JSON value; or with a key less."""
    if isinstance(part, dict) and part:
        keys = st.sampled_from(sorted(part))
        changed = keys.flatmap(lambda key: any_value_in(part[key]).map(lambda value: part | {key: value}))
        return ANY_JSON | changed | keys.map(lambda gone: {key: part[key] for key in part if key != gone})
    if isinstance(part, list) and part:
        return ANY_JSON | st.integers(0, len(part) - 1).flatmap(
            lambda index: any_value_in(part[index]).map(lambda value: [*part[:index], value, *part[index + 1 :]])
        )
    return ANY_JSON


SAMPLE_ROWS: dict[DatasetFormat, dict[str, Any]] = {
    "openai": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "q"}]},
            {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"a": 1}}}]},
            {"role": "tool", "tool_call_id": "1", "content": "r"},
            {"role": "assistant", "content": "a", "thinking": "t", "weight": 1},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "required": ["a"]}}}],
        "metadata": {"k": 1},
    },
    "sharegpt": {
        "conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": '{"name": "f"}'}],
        "system": "s",
        "tools": '[{"name": "f"}]',
    },
    "alpaca": {"instruction": "i", "input": "n", "output": "o", "history": [["q", "a"]], "system": "s"},
    "prompt_completion": {"prompt": "p", "completion": [{"role": "assistant", "content": "c"}], "weight": 1},
    "squad": {"context": "c", "question": "q", "answers": {"text": ["a"], "answer_start": [1]}},
    "preference": {"prompt": "p", "chosen": [{"role": "assistant", "content": "c"}], "rejected": "r"},
    "openai_preference": {
        "input": {"messages": [{"role": "user", "content": "q"}], "tools": [{"function": {"name": "f"}}]},
        "preferred_output": [{"role": "assistant", "content": "a"}],
        "non_preferred_output": [{"role": "assistant", "content": "b"}],
    },
    "kto": {"prompt": "p", "completion": "c", "label": True},
    "ultrafeedback": {"instruction": "i", "completions": [{"response": "r", "overall_score": 1.0}]},
    "oasst": {
        "message_tree_id": "1",
        "prompt": {"role": "prompter", "text": "q", "replies": [{"role": "assistant", "text": "a", "rank": 0}]},
    },
    "conversation": {"conversation": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    "toolace": {
        "system": 'list of functions in JSON format that you can invoke: [{"name": "f g"}]',
        "conversations": [{"from": "user", "value": "q"}, {"from": "assistant", "value": "[f g(a=1)]"}],
    },
    "glaive": {"system": 'SYSTEM: {"name": "f"}', "chat": 'USER: q\n\n\nASSISTANT: <functioncall> {"name": "f"}'},
    "xlam": {
        "query": "q",
        "answers": [{"name": "f", "arguments": {"a": 1}}],
        "tools": [{"name": "f", "parameters": {"a": {"type": "int, optional"}}}],
    },
    "openai_evals": {"input": [{"role": "user", "content": "q"}], "ideal": ["a", "b"]},
    "nemotron": {"input": [{"role": "user", "content": "q"}], "output": "a", "reasoning": "on"},
    "dolly": {"instruction": "i", "context": "c", "response": "r"},
    "orca": {"system_prompt": "s", "question": "q", "response": "r"},
    "openthoughts": {"problem": "p", "deepseek_reasoning": "t", "deepseek_solution": "a"},
    "ultrachat": {"data": ["q", "a"]},
    "question_answer": {"question": "q", "answer": "a"},
}


def test_there_is_a_row_of_every_format() -> None:
    assert SAMPLE_ROWS.keys() == FORMATS.keys()
    for name, row in SAMPLE_ROWS.items():
        assert detect_format(row) == name
        read = parse_chat_row(row, "f:1", name, RowSettings(preference="chosen"))
        assert read.example is not None, read


@pytest.mark.parametrize("name", SAMPLE_ROWS)
@given(data=st.data(), row_settings=SETTINGS)
@settings(max_examples=60)
def test_a_wrong_value_anywhere_is_named(name: DatasetFormat, data: st.DataObject, row_settings: RowSettings) -> None:
    row = data.draw(any_value_in(SAMPLE_ROWS[name]))
    check(parse_chat_row(row, "f:1", name, row_settings))


@given(st.lists(st.sampled_from(MARKUP), max_size=6).map("".join), st.text(max_size=6))
@settings(max_examples=300)
def test_any_markup_is_converted_or_named(markup: str, text: str) -> None:
    row = {"prompt": "q", "completion": markup + text}
    check(parse_chat_row(row, "f:1", "prompt_completion", RowSettings(text_markup="convert")))


def check(row: ReadRow) -> None:
    assert row.example is not None or row.problems
    assert all(problem.kind in PROBLEMS and str(problem).startswith("f:1: ") for problem in row.problems)


@st.composite
def rows_with_extra_keys(draw: st.DrawFn) -> tuple[DatasetFormat, dict[str, Any]]:
    """A row of a format whose texts are all different, with more columns and more fields in its messages."""
    name = draw(st.sampled_from(sorted(SAMPLE_ROWS)))
    numbers = count(1)

    def unique() -> str:
        return f"value{next(numbers)}x"

    extra_keys = st.sampled_from(KEYS) | st.sampled_from(sorted(HARMLESS_COLUMNS)) | st.text("abc_", min_size=1)
    extra_values = st.builds(unique) | st.lists(st.builds(unique), min_size=1, max_size=2)
    extra_values |= st.dictionaries(st.sampled_from(["k", "l"]), st.builds(unique), min_size=1)
    row = json.loads(json.dumps(SAMPLE_ROWS[name]))
    for turn in [turn for part in row.values() if isinstance(part, list) for turn in part if isinstance(turn, dict)]:
        for text in ("content", "value"):
            if text in turn and turn.get("from") != "function_call" and "[f g" not in str(turn[text]):
                turn[text] = unique()
        if draw(st.booleans()):
            turn.setdefault(draw(extra_keys), draw(extra_values))
    for key, value in draw(st.dictionaries(extra_keys, extra_values, max_size=3)).items():
        row.setdefault(key, value)
    return name, row


def unique_values(part: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every text that stands in the row only once, with the keys that lead to it."""
    if isinstance(part, dict):
        for key, value in part.items():
            yield from unique_values(value, (*path, key))
    elif isinstance(part, list):
        for value in part:
            yield from unique_values(value, path)
    elif isinstance(part, str) and part.startswith("value"):
        yield path, part


@given(rows_with_extra_keys())
@settings(max_examples=500)
def test_every_value_is_trained_on_or_harmless_or_named(drawn: tuple[DatasetFormat, dict[str, Any]]) -> None:
    name, row = drawn
    read = parse_chat_row(row, "f:1", name, RowSettings(preference="chosen"))
    named = " ".join(problem.text for problem in read.problems)
    if read.example is None:
        assert named
        return
    trained = read.example.model_dump_json(exclude={"metadata", "source"})
    for path, value in unique_values(row):
        is_harmless = path[0] in HARMLESS_COLUMNS or any(key in HARMLESS_MESSAGE_FIELDS for key in path[1:])
        is_named = any(f"{key}`" in named for key in path)
        assert value in trained or is_harmless or is_named, (path, value, read)


@pytest.mark.parametrize(
    ("turn", "field"),
    [
        ({"from": "human", "value": "q", "content": "another q"}, "content"),
        (
            {"from": "function_call", "value": '{"name": "f"}', "tool_calls": [{"function": {"name": "g"}}]},
            "tool_calls",
        ),
    ],
)
def test_a_turn_that_says_two_things_is_named(turn: dict[str, Any], field: str) -> None:
    row = {"conversations": [turn, {"from": "gpt", "value": "a"}], "tools": '[{"name": "f"}]'}
    (problem,) = parse_chat_row(row, "f:1", "sharegpt", RowSettings()).problems
    assert problem.kind == "given_twice"
    assert f"`value` and `{field}`" in problem.text
