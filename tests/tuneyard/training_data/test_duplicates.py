"""Duplicates and leakage: rows that people see as equal, and rows that teach different turns."""

from __future__ import annotations

from typing import Literal

import pytest

from tuneyard.chats.messages import ChatExample, ChatMessage, ChatTool
from tuneyard.training_data.duplicates import DuplicateFinder

Weight = Literal[0, 1]


def chat(question: str, answer: str = "a", line: int = 1, weights: tuple[Weight, Weight] | None = None) -> ChatExample:
    messages = [ChatMessage(role="user", content=question), ChatMessage(role="assistant", content=answer)]
    if weights:
        messages = [m for w in weights for m in (messages[0], messages[1].model_copy(update={"weight": w}))]
    return ChatExample(messages=tuple(messages), source=f"c.jsonl:{line}")


def kinds(*examples: ChatExample, heldout: int = 0) -> list[str | None]:
    """The kind of problem of each example; the last `heldout` of them are held out."""
    finder = DuplicateFinder()
    problems = [
        finder.find_problem(example, is_heldout=number >= len(examples) - heldout)
        for number, example in enumerate(examples)
    ]
    return [problem and problem.kind for problem in problems]


@pytest.mark.parametrize(("left", "right"), [("दिन", "दान"), ("C++", "C"), ("-5", "5"), ("👍", "👎"), ("ที่", "ที")])
def test_rows_that_look_different_are_neither_duplicates_nor_leaked(left: str, right: str) -> None:
    assert kinds(chat(left), chat(right)) == [None, None]
    assert kinds(chat("q", left), chat("q", right)) == [None, None]
    assert kinds(chat(left), chat(right), heldout=1) == [None, None]


def test_equal_rows_are_duplicates_and_leaked() -> None:
    assert kinds(chat("Hi!"), chat("Hi!"), chat("hi"), chat("HI"), heldout=1) == [
        None,
        "duplicate",
        "near_duplicate",
        "leakage",
    ]
    problem = DuplicateFinder()
    problem.find_problem(chat("你好，世界", line=7), is_heldout=False)
    found = problem.find_problem(chat("你好世界", line=9), is_heldout=True)
    assert str(found).startswith("c.jsonl:9: this held-out row equals a training row (row or line 7) except for case")


def test_rows_that_train_other_turns_or_declare_other_tools_are_no_duplicates_but_leak() -> None:
    first, second = chat("q", weights=(1, 0)), chat("q", weights=(0, 1))
    assert kinds(first, second) == [None, None]
    assert kinds(first, second, heldout=1) == [None, "leakage"]
    tool = ChatTool.model_validate({"function": {"name": "now"}})
    assert kinds(chat("q"), chat("q").model_copy(update={"tools": (tool,)})) == [None, None]
    assert kinds(first, chat("Q", weights=(1, 0))) == [None, "near_duplicate"]
