"""Row formats: every format in every file type gives the same chats."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tuneyard.chats.dataset import load_chat_dataset
from tuneyard.chats.messages import ChatExample
from tuneyard.chats.row_settings import RowSettings
from tuneyard.core.errors import DatasetError

TOOL = {"type": "function", "function": {"name": "now", "description": "Time", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": '{"zone": "UTC"}'}}
PAIR = [("user", "Häuser?"), ("assistant", "Ja, \U0001f389.")]
ROWS: dict[str, dict[str, Any]] = {
    "openai": {"messages": [{"role": role, "content": text} for role, text in PAIR]},
    "sharegpt": {"conversations": [{"from": "human", "value": PAIR[0][1]}, {"from": "gpt", "value": PAIR[1][1]}]},
    "alpaca": {"instruction": PAIR[0][1], "input": "", "output": PAIR[1][1]},
    "prompt_completion": {"prompt": PAIR[0][1], "completion": PAIR[1][1]},
}


def plain(example: ChatExample) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in example.messages]


def to_jsonl(rows: list[Any], path: Path) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def to_json(rows: list[Any], path: Path) -> Path:
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return path


def to_csv(rows: list[Any], path: Path) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows({k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()} for row in rows)
    return path


def to_parquet(rows: list[Any], path: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def to_gzip(rows: list[Any], path: Path) -> Path:
    path = path.with_suffix(".jsonl.gz")
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    return path


def to_zstd(rows: list[Any], path: Path) -> Path:
    path = path.with_suffix(".jsonl.zst")
    with pa.OSFile(str(path), "wb") as file, pa.CompressedOutputStream(file, "zstd") as stream:
        stream.write("\n".join(map(json.dumps, rows)).encode())
    return path


def to_folder(rows: list[Any], path: Path) -> Path:
    folder = path.with_suffix("")
    folder.mkdir()
    to_jsonl(rows[:1], folder / "b.jsonl")
    to_parquet(rows[1:], folder / "c.parquet")
    (folder / "README.md").write_text("not data")
    return folder


def to_saved_dataset(rows: list[Any], path: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    datasets.Dataset.from_list(rows).save_to_disk(str(path.with_suffix("")))
    return path.with_suffix("")


WRITERS: dict[str, Callable[[list[Any], Path], Path]] = {
    "jsonl": to_jsonl, "json": to_json, "csv": to_csv, "parquet": to_parquet, "gzip": to_gzip, "zstd": to_zstd,
    "folder": to_folder, "saved": to_saved_dataset,
}  # fmt: skip


@pytest.mark.parametrize("format_name", ROWS)
@pytest.mark.parametrize("writer", WRITERS)
def test_each_format_in_each_file_type(tmp_path: Path, format_name: str, writer: str) -> None:
    suffix = writer if writer in ("json", "csv", "parquet") else "jsonl"
    path = WRITERS[writer]([ROWS[format_name]] * 3, tmp_path / f"chats.{suffix}")
    dataset = load_chat_dataset(str(path))
    assert dataset.format == format_name
    assert [plain(example) for example in dataset.examples] == [PAIR] * 3
    assert len({example.source for example in dataset.examples}) == 3


def test_a_uri_is_read_through_pyarrow(tmp_path: Path) -> None:
    path = to_jsonl([ROWS["openai"]], tmp_path / "c.jsonl")
    assert plain(load_chat_dataset(path.as_uri()).examples[0]) == PAIR
    with pytest.raises(DatasetError, match=r"pyarrow.fs does not support this location"):
        load_chat_dataset("nowhere://bucket/c.jsonl")


def test_squad_as_flat_rows_and_in_its_nested_form(tmp_path: Path) -> None:
    flat = {"context": "Bern is in Switzerland.", "question": "Where is Bern?", "answers": {"text": ["Switzerland"]}}
    question = {"question": flat["question"], "answers": [{"text": "Switzerland", "answer_start": 11}]}
    nested = {"version": "1.1", "data": [{"paragraphs": [{"context": flat["context"], "qas": [question]}]}]}
    expected = [
        ("user", "Context: Bern is in Switzerland. Question: Where is Bern? Answer:"),
        ("assistant", "Switzerland"),
    ]
    (tmp_path / "n.json").write_text(json.dumps(nested))
    for path in (to_jsonl([flat], tmp_path / "f.jsonl"), tmp_path / "n.json"):
        dataset = load_chat_dataset(str(path))
        assert (dataset.format, plain(dataset.examples[0])) == ("squad", expected)
    with pytest.raises(DatasetError, match="the question has no answer to train on"):
        load_chat_dataset(str(to_jsonl([flat | {"answers": {"text": []}}], tmp_path / "u.jsonl")))


def test_tool_calls_in_openai_and_sharegpt_format(tmp_path: Path) -> None:
    openai = {
        "tools": [TOOL],
        "messages": [
            {"role": "user", "content": "time?"},
            {"role": "assistant", "content": None, "thinking": "Ask.", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "name": "now", "content": "12:00"},
            {"role": "assistant", "content": [{"type": "text", "text": "Noon."}], "weight": 0},
        ],
    }
    sharegpt = {
        "tools": json.dumps([TOOL["function"]]),
        "conversations": [
            {"from": "human", "value": "time?"},
            {"from": "function_call", "value": '{"name": "now", "arguments": {"zone": "UTC"}}'},
            {"from": "observation", "value": "12:00"},
            {"from": "gpt", "value": "Noon."},
        ],
    }
    (first,) = load_chat_dataset(str(to_jsonl([openai], tmp_path / "o.jsonl"))).examples
    (second,) = load_chat_dataset(str(to_jsonl([sharegpt], tmp_path / "s.jsonl"))).examples
    for example in (first, second):
        assert [m.role for m in example.messages] == ["user", "assistant", "tool", "assistant"]
        assert example.messages[1].tool_calls[0].function.name == "now"
        assert json.loads(example.messages[1].tool_calls[0].function.arguments) == {"zone": "UTC"}
        assert example.tools[0].function.name == "now"
    assert (first.messages[1].reasoning_content, first.messages[3].weight) == ("Ask.", 0)


def test_a_row_of_another_format_is_a_problem(tmp_path: Path) -> None:
    path = to_jsonl([ROWS["alpaca"], ROWS["openai"]], tmp_path / "mixed.jsonl")
    with pytest.raises(DatasetError, match=r"mixed.jsonl:2: expected an object with `instruction` and `output`"):
        load_chat_dataset(str(path))
    with pytest.raises(DatasetError, match=r"mixed.jsonl:1: expected an object with `prompt` and `completion`"):
        load_chat_dataset(str(path), RowSettings(format="prompt_completion"))
