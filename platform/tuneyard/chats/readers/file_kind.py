"""The kind of a dataset file, recognised by its first bytes; its suffix decides only if the bytes do not."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Literal

from tuneyard.core.errors import DatasetError

FileKind = Literal["parquet", "csv", "json", "jsonl"]

HEAD_BYTES = 1 << 16
"""How many bytes at the beginning of a file are read to recognise its kind."""

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
"""Suffixes of compressed files, and pyarrow's names of their codecs."""

DELIMITERS = (",", ";", "\t")

MAGIC_BYTES = 4
"""How many bytes at the beginning of a file say that it is compressed."""

_CODEC_OF_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}

_OTHER_FILES = (
    (b"PK\x03\x04", "is a zip archive or an Excel workbook. Unpack it, or save the sheet as CSV in UTF-8."),
    (b"\xd0\xcf\x11\xe0", "is an old Excel workbook. Save the sheet as CSV in UTF-8."),
    (b"BZh", "is compressed with bzip2. Unpack it (bunzip2 FILE), or compress it with gzip or zstd."),
    (b"\xfd7zXZ", "is compressed with xz. Unpack it (unxz FILE), or compress it with gzip or zstd."),
    (b"7z\xbc\xaf", "is a 7z archive. Unpack it."),
    (b"ARROW1", "is an Arrow file. Write it as Parquet, or give the folder that datasets.save_to_disk wrote."),
    (b"\xff\xff\xff\xff", "is an Arrow stream. Give the folder that datasets.save_to_disk wrote, or write Parquet."),
    (b"Obj\x01", "is an Avro file. Write it as Parquet or JSONL."),
    (b"ORC", "is an ORC file. Write it as Parquet or JSONL."),
    (b"version https://git-lfs", "is a pointer of Git LFS, not the data. Fetch the data: git lfs pull"),
    (b"<!DOCTYPE", "is a web page, often an error or a login page that was saved instead of the data."),
    (b"<html", "is a web page, often an error or a login page that was saved instead of the data."),
)
"""First bytes of files that are often given and cannot be read, and what to do about each."""

_WIDE_ENCODINGS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_COLUMN_NAME = re.compile(r"[\w.:/-]+( [\w.:/-]+){0,3}")


def format_suffix(name: str) -> str:
    """The suffix that names the file's format, in lower case: `.jsonl` of `Chats.JSONL.GZ`."""
    path = Path(name.lower())
    return Path(path.stem).suffix if path.suffix in COMPRESSIONS else path.suffix


def compression_of(head: bytes) -> str | None:
    """The codec with which a file that begins with `head` is compressed; None if it is not compressed."""
    return next((codec for magic, codec in _CODEC_OF_MAGIC.items() if head.startswith(magic)), None)


def tell_file_kind(head: bytes, name: str, location: str) -> FileKind:
    """The kind of the file `name`, whose content, unpacked, begins with `head`; `location` is for messages.

    Raises DatasetError with the fix for a file that is none of them.
    """
    suffix = format_suffix(name)
    if head.startswith(b"PAR1"):
        return "parquet"
    for magic, what in _OTHER_FILES:
        if head.startswith(magic):
            raise DatasetError(f"{location}: the file {what}")
    if encoding := _wide_encoding(head):
        fix = f"iconv -f {encoding.lower()} -t utf-8 {name} > utf8-{name}"
        raise DatasetError(f"{location}: the file is {encoding}, not UTF-8. Convert it: {fix}")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"["):
        return "json"
    if text.startswith(b"{"):
        return "jsonl" if _is_line_by_line(text, is_named_json=suffix == ".json") else "json"
    if suffix == ".parquet":
        raise DatasetError(f"{location}: cannot be read: the file does not begin as a Parquet file does.")
    if suffix in (".csv", ".tsv") or csv_delimiter(text) is not None:
        return "csv"
    if suffix in (".json", ".jsonl", ".ndjson"):
        return "json" if suffix == ".json" else "jsonl"
    raise DatasetError(
        f"{location}: the file type {suffix!r} is not supported. Supported: {', '.join(SUFFIXES)}, each also with .gz "
        "or .zst."
    )


def csv_delimiter(text: bytes) -> str | None:
    """The delimiter of a CSV file that begins with `text`; None if its first line is no row of column names."""
    line = text.splitlines()[0].decode(errors="replace") if text.strip() else ""
    for delimiter in DELIMITERS:
        cells = next(csv.reader([line], delimiter=delimiter), [])
        if len(cells) > 1 and len(set(cells)) == len(cells) and all(map(_COLUMN_NAME.fullmatch, cells)):
            return delimiter
    return None


def _is_line_by_line(text: bytes, *, is_named_json: bool) -> bool:
    """Whether text that begins with `{` has one object per line, and is not one object over many lines."""
    first, _, rest = text.partition(b"\n")
    if first.strip() == b"{":
        return False
    # One line of a .json file may be the whole file.
    return not is_named_json or (rest.lstrip().startswith(b"{") and _is_json(first))


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32, by the byte order mark, or by the zero bytes between the first characters."""
    marked = next((encoding for mark, encoding in _WIDE_ENCODINGS if head.startswith(mark)), None)
    if marked or len(head) < 4:
        return marked
    if head[1] == head[3] == 0 and head[0] and head[2]:
        return "UTF-16LE"
    if head[0] == head[2] == 0 and head[1] and head[3]:
        return "UTF-16BE"
    return None
