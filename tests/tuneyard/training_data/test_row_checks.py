"""Checks of one row after another: control characters and special tokens are found wherever they stand."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.chats.messages import ChatExample, ChatMessage
from tuneyard.harmony.tokenizer_file.tokenizer_rules import SPECIAL_TOKENS
from tuneyard.training_data.row_checks import RowChecker

CONTROL = [*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F, *range(0x80, 0xA0), 0xFFFD, 0xD800, 0xDFFF]
HARMLESS = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufffd<")) | st.sampled_from(
    ["\n\t\r", '\\ "\\u0007"', "<b>|</b>", "< |end|>"]
)


def kinds(content: str, reasoning: str | None = None) -> list[str]:
    answer = ChatMessage(role="assistant", content=content, reasoning_content=reasoning)
    example = ChatExample(messages=(ChatMessage(role="user", content="q"), answer), source="f:1")
    return [problem.kind for problem in RowChecker().find_problems(example)]


@given(before=HARMLESS, after=HARMLESS, character=st.sampled_from(CONTROL).map(chr))
def test_control_characters_are_found(before: str, after: str, character: str) -> None:
    assert kinds(before + character + after) == ["control_character"]
    assert kinds("a", before + character + after) == ["control_character"]


@pytest.mark.parametrize("token", [*SPECIAL_TOKENS, "<|endoftext|>"])
@given(before=HARMLESS, after=HARMLESS)
def test_texts_of_special_tokens_are_found(token: str, before: str, after: str) -> None:
    assert kinds(f"{before}{token}{after}") == ["special_token_text"]


@given(HARMLESS, HARMLESS)
def test_other_texts_have_no_problem(content: str, reasoning: str) -> None:
    assert kinds(content, reasoning) == []


def test_the_place_is_named() -> None:
    answer = ChatMessage(role="assistant", content="ab\x00")
    (problem,) = RowChecker().find_problems(ChatExample(messages=(answer,), source="f:7"))
    assert re.match(r"f:7: message 1 \(assistant\) contains the control character .* at character 3\.", str(problem))
