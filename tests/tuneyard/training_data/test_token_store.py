"""The token store: cached, resumed, rendered in parallel, memory-mapped; its rows equal those of the token table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tuneyard.chats.messages import ChatExample, ChatMessage
from tuneyard.core.errors import DatasetError
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings
from tuneyard.training_data.part_rendering import ChatSource, TokenSettings
from tuneyard.training_data.token_part import SUMMARY_KEY, part_files, read_file_summary
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


def turns(chats: int) -> list[ChatExample]:
    """Chats of twenty turns."""
    pair = (ChatMessage(role="user", content="question"), ChatMessage(role="assistant", content="word " * 20))
    return [ChatExample(messages=pair * 20, source=f"c.jsonl:{n + 1}") for n in range(chats)]


@pytest.mark.parametrize("processes", [1, 2])
def test_files_hold_no_more_tokens_than_the_bound(settings: TokenSettings, tmp_path: Path, processes: int) -> None:
    """Each twenty-turn chat becomes twenty rows, so a part of few chats needs several files."""
    chats, bound = turns(9), 5000
    limits = replace(settings, max_length=1024, file_tokens=bound)
    source = ChatSource(lambda: chats, len(chats), "turns", "c.jsonl")
    store = build_token_store(source, limits, tmp_path, processes)
    tokens = [read_file_summary(path)["tokens"] for path in part_files(store.path)]  # type: ignore[index]
    assert max(tokens) <= bound
    assert sum(tokens) == store.tokens > 4 * bound
    # No file is cut early: two neighbours of a part do not fit in one.
    names = [path.name for path in part_files(store.path)]
    for number, (one, other) in enumerate(pairwise(names)):
        if one[:11] == other[:11]:
            assert tokens[number] + 1024 > bound
    codec = HarmonyCodec.from_checkpoint(settings.checkpoint, settings.codec)
    expected = build_token_table(chats, codec, 1024).rows
    rows = open_token_rows(store.path)
    assert rows["input_ids"][:] == expected["input_ids"].to_pylist()
    assert rows["source"][:] == expected["source"].to_pylist()


def test_a_part_is_cut_by_the_size_of_its_chats_too(settings: TokenSettings, tmp_path: Path) -> None:
    question = ChatMessage(role="user", content="long " * 300_000)
    long = [chat.model_copy(update={"messages": (question, *chat.messages[1:])}) for chat in CHATS[:4]]
    source = ChatSource(lambda: long, len(long), "long", "c.jsonl")
    store = build_token_store(source, settings, tmp_path, 1)
    assert (store.rows, store.too_long) == (0, 4)
    assert [path.name for path in part_files(store.path)] == ["part-000000.arrow", "part-000001.arrow"]


@pytest.mark.parametrize("damage", ["missing", "cut", "empty", "text"])
@pytest.mark.parametrize("number", [0, 3, -1])
def test_a_store_with_a_damaged_file_is_rendered_again_and_never_opened_short(
    settings: TokenSettings, expected: list[dict[str, Any]], tmp_path: Path, damage: str, number: int
) -> None:
    counting = CountingSource()
    limits = replace(settings, file_tokens=300)
    store = build_token_store(counting.source, limits, tmp_path, 1)
    files = part_files(store.path)
    assert len(files) > 7
    path, kept = files[number], {file: file.stat().st_mtime_ns for file in files}
    match damage:
        case "missing":
            path.unlink()
        case "cut":
            path.write_bytes(path.read_bytes()[:-40])
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_bytes(b"not Arrow")
    with pytest.raises(DatasetError, match="the tokens are not complete"):
        open_token_rows(store.path)
    assert build_token_store(counting.source, limits, tmp_path, 1) == store
    assert counting.passes == 2
    assert open_token_rows(store.path)["input_ids"][:] == [row["input_ids"] for row in expected]
    again = {file for file in kept if file.stat().st_mtime_ns != kept[file]}
    assert {file.name[:11] for file in again} == {path.name[:11]}


def test_a_store_with_one_file_per_part_from_before_files_had_a_bound_is_used_as_it_is(
    settings: TokenSettings, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Such files have no number of continuations in their summary, and may hold any number of tokens."""
    store = build_token_store(CountingSource().source, settings, tmp_path, 1)
    for path in part_files(store.path):
        remove_continuations(path)
    written = {path: path.stat().st_mtime_ns for path in store.path.iterdir()}
    counting = CountingSource()
    assert build_token_store(counting.source, replace(settings, file_tokens=100), tmp_path, 1) == store
    assert counting.passes == 0
    assert {path: path.stat().st_mtime_ns for path in store.path.iterdir()} == written
    assert open_token_rows(store.path)["input_ids"][:] == [row["input_ids"] for row in expected]


def test_an_interrupted_store_from_before_files_had_a_bound_is_finished(
    settings: TokenSettings, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        build_token_store(CountingSource(interrupt_at=10).source, settings, tmp_path, 1)
    (folder,) = tmp_path.iterdir()
    for path in part_files(folder):
        remove_continuations(path)
    (folder / "part-000123.arrow").write_bytes(part_files(folder)[0].read_bytes())
    store = build_token_store(CountingSource().source, replace(settings, file_tokens=300), tmp_path, 1)
    assert open_token_rows(store.path)["input_ids"][:] == [row["input_ids"] for row in expected]


def remove_continuations(path: Path) -> None:
    """Makes a file as it was written before parts could have several."""
    table = pa.ipc.open_stream(path.read_bytes()).read_all()
    summary = json.loads(table.schema.metadata[SUMMARY_KEY])
    del summary["continuations"]
    old = table.replace_schema_metadata({SUMMARY_KEY: json.dumps(summary)})
    with pa.ipc.new_stream(str(path), old.schema) as writer:
        writer.write_table(old)
