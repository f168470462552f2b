"""The parity gate: frozen prompts, the first differing token, and the key of its route."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.api.admin_key import load_admin_key
from tuneyard.api.requests import RenderRequest
from tuneyard.chats.dataset import load_chat_dataset
from tuneyard.chats.messages import ChatExample, ChatMessage
from tuneyard.core.errors import CheckpointError, ParityError
from tuneyard.harmony.codec import CodecSettings, HarmonyCodec
from tuneyard.harmony.parity import (
    PARITY_ROWS,
    ParityRow,
    ParitySample,
    check_parity,
    first_difference,
    parse_parity_rows,
    render_with,
)


def sampled(examples: Sequence[ChatExample]) -> ParitySample:
    sample = ParitySample()
    for example in examples:
        sample.add(example)
    return sample


@pytest.fixture(scope="module")
def codec(tiny_oss: Path) -> HarmonyCodec:
    return HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings(conversation_date="today"))


@pytest.fixture(scope="module")
def rows(codec: HarmonyCodec) -> tuple[ParityRow, ...]:
    return sampled(load_chat_dataset("jobs/data/brindle_train.jsonl").examples).freeze(codec)


def test_frozen_rows_render_the_same_again_on_any_day(codec: HarmonyCodec, rows: tuple[ParityRow, ...]) -> None:
    assert len(rows) == PARITY_ROWS
    assert max(len(row.messages) for row in rows) > 3
    stored = parse_parity_rows([row.model_dump(mode="json", exclude_defaults=True) for row in rows])
    assert stored == rows
    assert check_parity(stored, render_with(codec), codec, "here") == sum(len(row.token_ids) for row in rows)
    yesterday = tuple(row.model_copy(update={"today": "2001-01-01"}) for row in rows)
    with pytest.raises(ParityError):
        check_parity(yesterday, render_with(codec), codec, "here")


def test_the_row_travels_as_a_request_of_the_api(codec: HarmonyCodec, rows: tuple[ParityRow, ...]) -> None:
    for row in rows:
        request = RenderRequest.parse(row.request_body("m"))
        messages = [message.to_chat_message() for message in request.messages]
        assert tuple(codec.render(messages, request.tools, None, request.today)) == row.token_ids


def test_the_first_differing_token_is_shown(tiny_oss: Path, codec: HarmonyCodec, rows: tuple[ParityRow, ...]) -> None:
    skewed = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings(conversation_date="today", reasoning_effort="high"))
    with pytest.raises(ParityError, match=r"Row 1, token \d+, after '.*Reasoning:'") as caught:
        check_parity(rows, render_with(skewed), codec, "the replica")
    assert str(caught.value).startswith("the replica: the prompt is not the one of its training")
    assert "trained: " in str(caught.value)
    assert "served:  " in str(caught.value)

    def cut(row: ParityRow) -> Sequence[int]:
        return row.token_ids[:-1]

    with pytest.raises(ParityError, match=r"served:  \(ends here\)"):
        check_parity(rows, cut, codec, "the replica")


@given(left=st.lists(st.integers(0, 3), max_size=8), right=st.lists(st.integers(0, 3), max_size=8))
def test_first_difference_is_the_first(left: list[int], right: list[int]) -> None:
    found = first_difference(1, left, right)
    if found is None:
        assert left == right
    else:
        assert left[: found.position] == right[: found.position]
        assert left[found.position : found.position + 1] != right[found.position : found.position + 1]


def test_a_damaged_row_is_refused() -> None:
    with pytest.raises(CheckpointError, match="`parity` holds a row that is none"):
        parse_parity_rows([{"messages": "x"}])


def test_few_examples_are_all_frozen(codec: HarmonyCodec) -> None:
    one = ChatExample(messages=(ChatMessage(role="user", content="q"), ChatMessage(role="assistant", content="a")))
    assert len(sampled([one]).freeze(codec)) == 1


def test_the_admin_key_is_made_once_for_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEYARD_HOME", str(tmp_path / "h"))
    key = load_admin_key()
    assert len(key) > 30
    assert load_admin_key() == key
    assert (tmp_path / "h" / "admin_key").stat().st_mode & 0o077 == 0
    monkeypatch.setenv("TUNEYARD_ADMIN_KEY", "given")
    assert load_admin_key() == "given"
