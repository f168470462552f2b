"""The parity check: stored prompts, the first different token, and the rows that are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.api.wire.chat_request import RenderRequest
from tuneyard.chats.dataset import load_chat_dataset
from tuneyard.chats.messages import ChatExample, ChatMessage, ChatTool
from tuneyard.chats.rules.example_problems import MAX_TOOLS
from tuneyard.configs.http_limits import HttpLimits
from tuneyard.core.errors import CheckpointError, ParityError
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.parity import check_parity, first_difference, render_with
from tuneyard.harmony.parity_rows import (
    MAX_CHARACTERS,
    MAX_MESSAGES,
    MAX_RUN_CHARACTERS,
    PARITY_ROWS,
    ParityRow,
    ParitySample,
    parse_parity_rows,
)
from tuneyard.harmony.settings import CodecSettings


def sample_of(examples: Sequence[ChatExample]) -> ParitySample:
    sample = ParitySample()
    for example in examples:
        sample.add(example)
    return sample


@pytest.fixture(scope="module")
def codec(tiny_oss: Path) -> HarmonyCodec:
    return HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings(conversation_date="today"))


@pytest.fixture(scope="module")
def rows(codec: HarmonyCodec) -> tuple[ParityRow, ...]:
    return sample_of(load_chat_dataset("jobs/data/brindle_train.jsonl").examples).freeze(codec, keeps_words=True)


def test_stored_rows_render_the_same_on_any_day(codec: HarmonyCodec, rows: tuple[ParityRow, ...]) -> None:
    assert len(rows) == PARITY_ROWS
    assert max(len(row.messages) for row in rows) > 3
    stored = parse_parity_rows([row.model_dump(mode="json", exclude_defaults=True) for row in rows])
    assert stored == rows
    assert check_parity(stored, render_with(codec), codec, "here") == sum(len(row.token_ids) for row in rows)
    yesterday = tuple(row.model_copy(update={"today": "2001-01-01"}) for row in rows)
    with pytest.raises(ParityError):
        check_parity(yesterday, render_with(codec), codec, "here")


def test_a_row_renders_the_same_as_a_request_of_the_api(codec: HarmonyCodec, rows: tuple[ParityRow, ...]) -> None:
    for row in rows:
        request = RenderRequest.parse(row.request_body("m"))
        messages = [message.to_chat_message() for message in request.messages]
        assert tuple(codec.render(messages, request.tools, None, request.today)) == row.token_ids


def test_the_first_different_token_is_shown(tiny_oss: Path, codec: HarmonyCodec, rows: tuple[ParityRow, ...]) -> None:
    skewed = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings(conversation_date="today", reasoning_effort="high"))
    with pytest.raises(ParityError, match=r"Row 1, token \d+, after '.*Reasoning:'") as caught:
        check_parity(rows, render_with(skewed), codec, "the replica")
    assert str(caught.value).startswith("the replica: a prompt is rendered differently than in training")
    assert "trained: " in str(caught.value)
    assert "served:  " in str(caught.value)

    def without_last_token(row: ParityRow) -> Sequence[int]:
        return row.token_ids[:-1]

    with pytest.raises(ParityError, match=r"served:  \(ends here\)"):
        check_parity(rows, without_last_token, codec, "the replica")


@given(left=st.lists(st.integers(0, 3), max_size=8), right=st.lists(st.integers(0, 3), max_size=8))
def test_first_difference_is_the_first_of_all(left: list[int], right: list[int]) -> None:
    difference = first_difference(1, left, right)
    if difference is None:
        assert left == right
    else:
        position = difference.position
        assert left[:position] == right[:position]
        assert left[position : position + 1] != right[position : position + 1]


def test_a_damaged_row_is_refused() -> None:
    with pytest.raises(CheckpointError, match="`parity` has an invalid row"):
        parse_parity_rows([{"messages": "x"}])


def test_rows_keep_no_word_unless_asked_to(codec: HarmonyCodec, rows: tuple[ParityRow, ...]) -> None:
    examples = load_chat_dataset("jobs/data/brindle_train.jsonl").examples
    anonymous = sample_of(examples).freeze(codec)
    assert [[m.role for m in row.messages] for row in anonymous] == [[m.role for m in row.messages] for row in rows]
    assert check_parity(anonymous, render_with(codec), codec, "here") > 0
    texts = {message.content for example in examples for message in example.messages}
    assert {message.content for row in rows for message in row.messages} <= texts
    assert not {message.content for row in anonymous for message in row.messages} & texts
    assert "Brindle" in str(rows)
    assert "Brindle" not in str(anonymous)


def unservable(kind: str) -> ChatExample:
    question, answer = ChatMessage(role="user", content="q"), ChatMessage(role="assistant", content="a")
    names = {"too many tools": [f"t{n}" for n in range(129)], "a tool twice": ["t", "t"]}.get(kind, [])
    tools = tuple(ChatTool.model_validate({"function": {"name": name}}) for name in names)
    match kind:
        case "too many messages":
            return ChatExample(messages=(question, answer) * 300)
        case "too long":
            return ChatExample(messages=(question.model_copy(update={"content": "word " * 100_000}), answer))
        case "a long run":
            return ChatExample(messages=(question.model_copy(update={"content": "x" * 5000}), answer))
    return ChatExample(messages=(question, answer), tools=tools)


@pytest.mark.parametrize("kind", ["too many tools", "a tool twice", "too many messages", "too long", "a long run"])
def test_prompts_that_no_server_accepts_are_not_chosen(codec: HarmonyCodec, kind: str) -> None:
    good = ChatExample(messages=(ChatMessage(role="user", content="good"), ChatMessage(role="assistant", content="a")))
    for examples in ([unservable(kind), good], [good] * 8 + [unservable(kind)] * 20):
        rows = sample_of(examples).freeze(codec, keeps_words=True)
        assert {row.messages[-1].content for row in rows} == {"good"}


def test_a_long_prompt_in_a_script_without_spaces_is_chosen(codec: HarmonyCodec) -> None:
    text = "安大略省的天气今天很好。" * 1000
    long = ChatExample(messages=(ChatMessage(role="user", content=text), ChatMessage(role="assistant", content="好")))
    (row,) = sample_of([long]).freeze(codec)
    assert len(row.messages[0].content) == len(text)


def test_the_limits_of_a_row_are_below_those_of_a_server() -> None:
    limits = HttpLimits()
    assert limits.messages > MAX_MESSAGES
    assert min(limits.message_characters, limits.characters, limits.body_bytes / 4) > MAX_CHARACTERS
    assert limits.run_characters > MAX_RUN_CHARACTERS
    assert limits.tools == MAX_TOOLS


def test_few_examples_are_all_stored(codec: HarmonyCodec) -> None:
    one = ChatExample(messages=(ChatMessage(role="user", content="q"), ChatMessage(role="assistant", content="a")))
    assert len(sample_of([one]).freeze(codec)) == 1
