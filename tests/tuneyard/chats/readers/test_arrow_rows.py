"""Columnar files: null members are left out, values of the type JSON are parsed, broken texts name their row."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from tuneyard.chats.raw_rows import read_raw_rows

CALL = {"name": "count", "arguments": {"port": 7, "deep": {"x": None}}}
CHATS = [
    [{"role": "user", "content": "Count gulls"}, {"role": "assistant", "content": None, "call": CALL}],
    [{"role": "user", "content": "And?"}],
]


def json_table() -> pa.Table:
    """A table with columns of the type that `datasets` writes for its type Json."""
    texts = pa.array([[json.dumps(message) for message in chat] for chat in CHATS])
    messages = pa.ListArray.from_arrays(texts.offsets, pa.ExtensionArray.from_storage(pa.json_(), texts.values))
    schemas = pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": null}', None]))
    tools = pa.StructArray.from_arrays([pa.array(["count", None]), schemas], ["name", "schema"])
    return pa.table({"messages": messages, "tool": tools})


def test_values_of_the_type_json_are_parsed_and_keep_their_nulls(tmp_path: Path) -> None:
    pq.write_table(json_table(), tmp_path / "t.parquet")
    rows = [row.value for row in read_raw_rows(str(tmp_path / "t.parquet"))]
    assert rows == [
        {"messages": CHATS[0], "tool": {"name": "count", "schema": {"a": None}}},
        {"messages": CHATS[1], "tool": {}},
    ]


def test_a_saved_dataset_equals_its_parquet_file(tmp_path: Path) -> None:
    features = datasets.Features({"messages": datasets.List(datasets.Json()), "id": datasets.Value("int64")})
    saved = datasets.Dataset.from_dict({"messages": CHATS, "id": [1, None]}, features=features)
    saved.save_to_disk(tmp_path / "saved")
    saved.to_parquet(tmp_path / "t.parquet")
    rows = [row.value for row in read_raw_rows(str(tmp_path / "saved"))]
    assert rows == [{"messages": CHATS[0], "id": 1}, {"messages": CHATS[1]}]
    assert [row.value for row in read_raw_rows(str(tmp_path / "t.parquet"))] == rows


def test_a_text_that_is_not_utf8_names_its_row(tmp_path: Path) -> None:
    broken = pa.Array.from_buffers(
        pa.string(), 3, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xffb")]
    )
    pq.write_table(pa.table({"prompt": broken}), tmp_path / "t.parquet")
    rows = list(read_raw_rows(str(tmp_path / "t.parquet")))
    assert [(row.where, row.value) for row in rows] == [
        ("t.parquet:row 1", {"prompt": "a"}),
        ("t.parquet:row 2", None),
        ("t.parquet:row 3", {"prompt": "b"}),
    ]
    assert rows[1].problem == "a text is not UTF-8: byte 0xff. Write the file again, in UTF-8."


def test_json_that_is_none_names_its_row(tmp_path: Path) -> None:
    column = pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": 1}', "{a", '{"k": {"a": 1, "a": 2}}']))
    pq.write_table(pa.table({"metadata": column}), tmp_path / "t.parquet")
    rows = list(read_raw_rows(str(tmp_path / "t.parquet")))
    assert rows[0].value == {"metadata": {"a": 1}}
    assert rows[1].where == "t.parquet:row 2"
    assert str(rows[1].problem).startswith("a column of type JSON cannot be read: Expecting property name")
    assert rows[2].problem == "a column of type JSON cannot be read: the key 'a' stands twice in one object."
