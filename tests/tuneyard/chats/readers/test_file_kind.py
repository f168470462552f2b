"""The kind of a file is told from its content: a wrong suffix changes nothing; other files are refused with the fix."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneyard.chats.raw_rows import read_raw_rows
from tuneyard.chats.readers.file_kind import format_suffix, tell_file_kind
from tuneyard.core.errors import DatasetError

ROWS = [{"prompt": "q1", "completion": "a1"}, {"prompt": "q2", "completion": "a2"}]


def parquet_bytes() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


CONTENTS = {
    "jsonl": "\n".join(map(json.dumps, ROWS)).encode(),
    "array": json.dumps(ROWS, indent=1).encode(),
    "object": json.dumps({"data": ROWS}, indent=1).encode(),
    "csv": b"prompt,completion\nq1,a1\nq2,a2\n",
    "semicolons": b"\xef\xbb\xbfprompt;completion\r\nq1;a1\r\nq2;a2\r\n",
    "tabs": b"prompt\tcompletion\nq1\ta1\nq2\ta2\n",
    "parquet": parquet_bytes(),
}
SUFFIXES = (".jsonl", ".JSONL", ".ndjson", ".json", ".csv", ".tsv", ".txt", "", ".jsonl.gz", ".JSON.GZ")


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("is_compressed", [False, True])
def test_the_content_decides_how_a_file_is_read(
    tmp_path: Path, content: str, suffix: str, *, is_compressed: bool
) -> None:
    if is_compressed and content == "parquet":
        return
    path = tmp_path / f"chats{suffix}"
    path.write_bytes(gzip.compress(CONTENTS[content]) if is_compressed else CONTENTS[content])
    assert [row.value for row in read_raw_rows(str(path))] == ROWS


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("prompt,completion\n".encode("utf-16"), "UTF-16, not UTF-8. Convert it: iconv -f utf-16 -t utf-8 x.csv > "),
        ("prompt,completion\n".encode("utf-16-le"), "UTF-16LE, not UTF-8. Convert it: iconv -f utf-16le -t utf-8"),
        ("prompt,completion\n".encode("utf-16-be"), "UTF-16BE, not UTF-8. Convert it: iconv -f utf-16be -t utf-8"),
        ("prompt,completion\n".encode("utf-32"), "UTF-32, not UTF-8. Convert it: iconv -f utf-32 -t utf-8"),
        (b"PK\x03\x04\x14\x00", "is a zip archive or an Excel workbook"),
        (b"\xfd7zXZ\x00", "is compressed with xz. Unpack it"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git lfs pull"),
        (b"<!DOCTYPE html>\n", "is a web page"),
        (b"ARROW1\x00\x00", "is an Arrow file"),
    ],
)  # fmt: skip
def test_other_files_are_refused_with_the_fix(head: bytes, message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        tell_file_kind(head, "x.csv", "/data/x.csv")
    assert str(caught.value).startswith("/data/x.csv: the file ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_parquet_file_that_is_none_and_an_unknown_type_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"p.parquet: cannot be read: the file does not begin as a Parquet file"):
        tell_file_kind(b"nope, not at all", "p.parquet", "p.parquet")
    with pytest.raises(DatasetError, match=r"the file type '.txt' is not supported"):
        tell_file_kind(b"hi", "x.txt", "x.txt")


@given(head=st.binary(max_size=40), name=st.sampled_from([f"x{suffix}" for suffix in SUFFIXES]))
def test_any_bytes_have_a_kind_or_an_error(head: bytes, name: str) -> None:
    try:
        assert tell_file_kind(head, name, name) in ("parquet", "csv", "json", "jsonl")
    except DatasetError as e:
        assert str(e).startswith(name)


PIECES = st.sampled_from(
    [b"PAR1", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"[", b"]", b"{", b"}", b'{"a": 1}', b"\n", b",", b'"', b"a,b\n1,2"]
)


@settings(max_examples=300)
@given(
    content=st.lists(PIECES | st.binary(max_size=6), min_size=1, max_size=12).map(b"".join),
    suffix=st.sampled_from(SUFFIXES),
)
def test_any_file_gives_rows_or_an_error_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(content)
    try:
        for row in read_raw_rows(str(path)):
            assert row.where.startswith(path.name)
            assert "\n" not in (row.problem or "")
    except DatasetError as e:
        assert path.name in str(e)
        assert "\n" not in str(e)


def test_suffixes_are_told_in_any_case() -> None:
    assert format_suffix("Chats.JSONL.GZ") == ".jsonl"
    assert format_suffix("a.b.Parquet") == ".parquet"
