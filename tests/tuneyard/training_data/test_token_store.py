"""The token store: cached, resumed, rendered in parallel, memory-mapped; its rows equal those of the token table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tuneyard.chats.messages import ChatExample, ChatMessage
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings
from tuneyard.training_data.part_rendering import ChatSource, TokenSettings
from tuneyard.training_data.token_store import build_token_store, open_token_rows
from tuneyard.training_data.token_table import build_token_table

CHATS = [
    ChatExample(
        messages=(
            ChatMessage(role="user", content=f"question {n}"),
            ChatMessage(role="assistant", content="word " * (n % 7 + 1)),
        ),
        source=f"c.jsonl:{n + 1}",
    )
    for n in range(25)
]


class CountingSource:
    """Counts the passes over its chats, and can interrupt a pass."""

    def __init__(self, interrupt_at: int | None = None, chats: list[ChatExample] = CHATS) -> None:
        self.chats = chats
        self.passes = 0
        self.interrupt_at = interrupt_at
        self.source = ChatSource(self.read, len(CHATS), "fingerprint", "c.jsonl")

    def read(self) -> Iterator[ChatExample]:
        self.passes += 1
        for number, chat in enumerate(self.chats):
            if number == self.interrupt_at:
                raise KeyboardInterrupt
            yield chat


@pytest.fixture(scope="module")
def settings(tiny_oss: Path) -> TokenSettings:
    return TokenSettings(tiny_oss, CodecSettings(), max_length=512, part_chats=4)


@pytest.fixture(scope="module")
def expected(tiny_oss: Path) -> list[dict[str, Any]]:
    codec = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())
    rows: list[dict[str, Any]] = build_token_table(CHATS, codec, 512).rows.to_pylist()
    return rows


@pytest.mark.parametrize("processes", [1, 2])
def test_rows_equal_those_of_the_table_for_any_number_of_processes(
    settings: TokenSettings, expected: list[dict[str, Any]], tmp_path: Path, processes: int
) -> None:
    store = build_token_store(CountingSource().source, settings, tmp_path, processes)
    rows = open_token_rows(store.path)
    assert rows[:] == {name: [row[name] for row in expected] for name in expected[0]}
    assert (store.rows, store.tokens) == (len(CHATS), sum(len(row["input_ids"]) for row in expected))
    assert len(rows.cache_files) == 7  # memory-mapped, one file per part


def test_a_finished_store_is_used_again(settings: TokenSettings, tmp_path: Path) -> None:
    counting = CountingSource()
    first = build_token_store(counting.source, settings, tmp_path, 1)
    assert build_token_store(counting.source, settings, tmp_path, 1) == first
    assert counting.passes == 1


def test_an_interrupted_store_keeps_its_complete_parts(
    settings: TokenSettings, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        build_token_store(CountingSource(interrupt_at=10).source, settings, tmp_path, 1)
    (folder,) = tmp_path.iterdir()
    kept = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(kept) == 2
    store = build_token_store(CountingSource().source, settings, tmp_path, 1)
    assert store.path == folder
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert open_token_rows(folder)["input_ids"][:] == [row["input_ids"] for row in expected]


def test_a_part_of_other_chats_is_rendered_again(settings: TokenSettings, tmp_path: Path) -> None:
    """Such a part is left if a run is interrupted and the dataset changes afterwards."""
    other = [chat.model_copy(update={"source": "other"}) for chat in CHATS]
    with pytest.raises(KeyboardInterrupt):
        build_token_store(CountingSource(interrupt_at=10, chats=other).source, settings, tmp_path, 1)
    store = build_token_store(CountingSource().source, settings, tmp_path, 1)
    assert set(open_token_rows(store.path)["source"]) == {chat.source for chat in CHATS}


def test_everything_that_decides_the_rows_decides_the_folder(settings: TokenSettings, tmp_path: Path) -> None:
    source = CountingSource().source
    others = [
        replace(settings, max_length=256),
        replace(settings, packed=True),
        replace(settings, train_on_reasoning=False),
        replace(settings, codec=CodecSettings(reasoning_effort="high")),
    ]
    stores = [build_token_store(source, s, tmp_path, 1) for s in (settings, *others)]
    stores.append(build_token_store(replace(source, fingerprint="other"), settings, tmp_path, 1))
    assert len({store.path for store in stores}) == 6


def test_packed_parts_have_every_token_once(
    settings: TokenSettings, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    store = build_token_store(CountingSource().source, replace(settings, packed=True, part_chats=16), tmp_path, 1)
    packed = open_token_rows(store.path)
    assert store.rows == len(packed) < len(CHATS)
    tokens = sorted(token for row in packed["input_ids"] for token in row)
    assert tokens == sorted(token for row in expected for token in row["input_ids"])


def test_rows_over_the_maximum_length_are_counted_over_all_parts(
    settings: TokenSettings, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    limit = sorted(len(row["input_ids"]) for row in expected)[-3] - 1
    over = [row["source"] for row in expected if len(row["input_ids"]) > limit]
    store = build_token_store(CountingSource().source, replace(settings, max_length=limit), tmp_path, 1)
    assert store.too_long == len(over)
    assert [name.split(" ")[0] for name in store.too_long_named] == over
    assert store.rows == len(CHATS) - len(over)
