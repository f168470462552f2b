"""Preference pairs: every spelling of a pair gives the same pair, and what is no pair is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.chats.dataset import content_bytes, load_chat_dataset
from tuneyard.chats.messages import ChatExample
from tuneyard.chats.row_formats.registry import detect_format
from tuneyard.chats.row_reader import ChatRowReader, ReadRow, parse_chat_row
from tuneyard.chats.row_settings import RowSettings
from tuneyard.core.errors import DatasetError

PAIRS = RowSettings(preference="pairs")
TEXT = st.text("abc é😀\n[{", min_size=1, max_size=8).filter(str.strip)


def read(row: dict[str, Any], settings: RowSettings = PAIRS) -> ReadRow:
    name = detect_format(row)
    assert name is not None
    return parse_chat_row(row, "f:1", name, settings)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


@given(
    question=TEXT,
    system=st.none() | TEXT,
    turns=st.lists(st.tuples(TEXT, TEXT), max_size=2),
    answers=st.lists(TEXT, min_size=2, max_size=2, unique=True),
)
def test_every_spelling_gives_the_same_pair(
    question: str, system: str | None, turns: list[tuple[str, str]], answers: list[str]
) -> None:
    """OpenAI's rows, TRL's with the prompt apart or in both chats, Axolotl's, LLaMA-Factory's, and columns of texts."""
    chosen, rejected = map(assistant, answers)
    prompt = [] if system is None else [{"role": "system", "content": system}]
    for asked, answered in turns:
        prompt += [user(asked), assistant(answered)]
    prompt.append(user(question))
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    shared = [{"from": names[message["role"]], "value": message["content"]} for message in prompt]
    rows: list[dict[str, Any]] = [
        {"input": {"messages": prompt}, "preferred_output": [chosen], "non_preferred_output": [rejected]},
        {"input": {"messages": prompt}, "preferred_output": chosen, "non_preferred_output": [rejected]},
        {"prompt": prompt, "chosen": [chosen], "rejected": [rejected]},
        {"chosen": [*prompt, chosen], "rejected": [*prompt, rejected]},
        {"prompt": question, "chosen": [*prompt, chosen], "rejected": [*prompt, rejected]},
        {"prompt": prompt, "chosen": [*prompt, chosen], "rejected": [*prompt, rejected]},
        {"messages": prompt, "chosen": chosen, "rejected": rejected},
        {
            "conversations": shared,
            "chosen": {"from": "gpt", "value": answers[0]},
            "rejected": {"from": "gpt", "value": answers[1]},
        },
    ]
    if not turns:
        texts = {"prompt": question, "chosen": answers[0], "rejected": answers[1]}
        rows.append(texts if system is None else texts | {"system": system})
    pairs = [read(row) for row in rows]
    assert not any(pair.problems for pair in pairs), [pair.problems for pair in pairs]
    contents = {content_bytes(pair.example) for pair in pairs if pair.example is not None}
    assert len(contents) == 1
    example = pairs[0].example
    assert example is not None
    assert example.rejected is not None
    assert [message.content for message in example.answers] == answers
    assert [message.weight for message in example.messages if message.role == "assistant"] == [0] * len(turns) + [None]


def test_a_chat_has_the_fingerprint_that_it_had_before_pairs(tmp_path: Path) -> None:
    file = tmp_path / "chats.jsonl"
    file.write_text(json.dumps({"messages": [user("q"), assistant("a")], "tools": [{"function": {"name": "f"}}]}))
    expected = "dd9aa01e7f58e9961e3da80cd08a956a249b5450b6118ef70d858757b59dac9f"
    assert load_chat_dataset(str(file)).fingerprint == expected


def test_halves_are_the_chats_of_both_answers() -> None:
    example = read({"prompt": "q", "chosen": "a", "rejected": "b"}).example
    assert example is not None
    chats = [tuple(message.content for message in half.messages) for half in example.halves()]
    assert chats == [("q", "a"), ("q", "b")]
    assert all(half.rejected is None for half in example.halves())


@pytest.mark.parametrize(
    ("row", "kind", "text"),
    [
        ({"messages": [user("q"), assistant("a")]}, "no_pair", "format OpenAI chat, which has no chosen and rejected"),
        ({"prompt": "q", "completion": "a", "label": True}, "no_pair", "the row is of the format KTO"),
        (
            {"instruction": "q", "completions": [{"response": "r", "overall_score": 1.0}]},
            "no_pair",
            "the row is of the format UltraFeedback",
        ),
        ({"prompt": "q", "chosen": "a", "rejected": "a"}, "equal_answers", "the two answers are the same: 'a'"),
        ({"prompt": "q", "chosen": "a", "rejected": ""}, "empty_content", "with the rejected answer, message 2"),
        (
            {"prompt": "q", "chosen": [assistant("a"), user("b"), assistant("c")], "rejected": "d"},
            "different_prompts",
            "with the chosen answer the chat has 4 messages, with the rejected one 2",
        ),
        (
            {
                "prompt": "q",
                "chosen": [{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}],
                "rejected": "b",
            },
            "tool_calls",
            "with the chosen answer, message 2 calls 'f', which `tools` does not declare",
        ),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "weight": 0}, "no_trained_turn", "an answer has weight 0"),
        (
            {"prompt": "q", "chosen": "a", "rejected": 7.0, "label": "x"},
            "meaningful_column",
            "`label` looks like a part",
        ),
        (
            {"input": "q", "preferred_output": [assistant("a")], "non_preferred_output": [assistant("b")]},
            "wrong_format",
            "expected an object with a list `messages` in `input`, found 'q'",
        ),
    ],
)
def test_what_is_no_pair_is_named_once(row: dict[str, Any], kind: str, text: str) -> None:
    problems = read(row).problems
    assert [problem.kind for problem in problems] == [kind]
    assert text in problems[0].text


def test_pairs_are_refused_where_chats_are_trained() -> None:
    rows = (
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"input": {"messages": [user("q")]}, "preferred_output": [assistant("a")], "non_preferred_output": "b"},
    )
    for row in rows:
        (problem,) = read(row, RowSettings()).problems
        assert problem.kind == "preference_pair"
        assert "training.objective=dpo" in problem.text
        halves = [read(row, RowSettings(preference=half)).example for half in ("chosen", "rejected")]
        assert [half.messages[-1].content for half in halves if half is not None] == ["a", "b"]


def test_a_reader_that_accepts_pairs_reads_pairs_and_chats(tmp_path: Path) -> None:
    pairs, chats = tmp_path / "pairs.jsonl", tmp_path / "chats.jsonl"
    pairs.write_text(json.dumps({"prompt": "q", "chosen": "a", "rejected": "b"}))
    chats.write_text(json.dumps({"messages": [user("q"), assistant("a")]}))

    def first(file: Path, settings: RowSettings | None = None) -> ChatExample | None:
        (row,) = ChatRowReader(str(file), settings, accepts_pairs=True)
        return row.example

    pair, chat = first(pairs), first(chats)
    assert pair is not None
    assert pair.rejected is not None
    assert chat is not None
    assert chat.rejected is None
    assert first(pairs, RowSettings(format="preference")) == pair
    half = first(pairs, RowSettings(preference="rejected"))
    assert half is not None
    assert half.rejected is None
    with pytest.raises(DatasetError, match=r"Set training\.objective=dpo to train on both"):
        load_chat_dataset(str(pairs))
