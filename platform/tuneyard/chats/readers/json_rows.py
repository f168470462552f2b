"""Rows of JSONL files (one object per line) and JSON files (an array of objects, or a table in one object)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from tuneyard.chats.readers.json_tables import flatten_squad, table_rows
from tuneyard.chats.readers.raw_row import RawRow
from tuneyard.chats.readers.text_lines import ByteStream, decode_lines, not_utf8, read_lines
from tuneyard.chats.strict_json import parse_json
from tuneyard.core.errors import DatasetError
from tuneyard.core.wording import first_of

MAX_JSON_BYTES = 1 << 30
"""Largest JSON file: an array is parsed as a whole, in memory."""

_TOO_DEEP = "the JSON is nested too deeply for a chat row."
_NUMBER_TOO_LONG = "an integer has more digits than Python reads (4,300). Write it as text."


def read_jsonl(stream: ByteStream, name: str) -> Iterator[RawRow]:
    """The rows of a JSONL stream of the file `name`. Empty lines are skipped."""
    yield from _parse_lines(read_lines(stream), name)


def _parse_lines(lines: Iterable[bytes | None], name: str) -> Iterator[RawRow]:
    for number, line in decode_lines(lines, name):
        if isinstance(line, RawRow):
            yield line
        elif line.strip():
            row = _parse_row(line, f"{name}:{number}")
            rows = table_rows(row.value, may_be_columns=False) if number == 1 else None
            yield from [row] if rows is None else _numbered(rows, name)


def _parse_row(text: str, where: str) -> RawRow:
    try:
        value, repeated = parse_json(text)
    except json.JSONDecodeError as e:
        is_python = text.lstrip().startswith("{'")
        fix = "This is Python's repr; write it with json.dumps." if is_python else "Write one complete object per line."
        return RawRow(where, problem=f"not valid JSON at column {e.colno}: {e.msg}. {fix}")
    except RecursionError:
        return RawRow(where, problem=_TOO_DEEP)
    except ValueError:
        return RawRow(where, problem=_NUMBER_TOO_LONG)
    return RawRow(where, value, None, tuple(repeated))


def read_json(stream: ByteStream, name: str, size_bytes: int) -> Iterator[RawRow]:
    """The rows of a JSON stream: the items of its array, or the rows of a table in one object.

    A file with one object per line is read as JSONL. Raises DatasetError if the file is not valid JSON, not UTF-8, or
    over MAX_JSON_BYTES.
    """
    if size_bytes > MAX_JSON_BYTES:
        raise DatasetError(
            f"{name}: the JSON file has {size_bytes >> 20} MiB, the limit is {MAX_JSON_BYTES >> 20} MiB. "
            f"Convert it to JSONL: jq -c '.[]' {name}"
        )
    data = stream.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise DatasetError(f"{name}:{line}: {not_utf8(data[e.start], name)}") from e
    try:
        value, repeated = parse_json(text)
    except json.JSONDecodeError as e:
        if e.msg != "Extra data":
            raise DatasetError(f"{name}:{e.lineno}: not valid JSON at column {e.colno}: {e.msg}.") from e
        first = text[: e.pos]
        if "\n" not in first.strip() and "\n" in first[len(first.rstrip()) :]:
            yield from _parse_lines(data.split(b"\n"), name)  # JSONL in a file named .json
            return
        raise DatasetError(
            f"{name}:{e.lineno}: another JSON value follows at column {e.colno}. Write one array, or one object per "
            f"line: jq -c . {name}"
        ) from e
    except RecursionError as e:
        raise DatasetError(f"{name}:1: the JSON is nested too deeply for a dataset.") from e
    except ValueError as e:
        if text.lstrip().startswith("["):
            yield from _parse_items(text, name)
            return
        raise DatasetError(f"{name}: {_NUMBER_TOO_LONG}") from e
    if repeated:
        if isinstance(value, list):
            yield from _parse_items(text, name)
            return
        raise DatasetError(f"{name}: the JSON has keys that stand twice in one object: {first_of(repeated)}.")
    rows = value if isinstance(value, list) else table_rows(value, may_be_columns=True)
    yield from _numbered([value] if rows is None else rows, name)


def _numbered(rows: list[object], name: str) -> Iterator[RawRow]:
    for number, row in enumerate(flatten_squad(rows), start=1):
        yield RawRow(f"{name}[{number}]", row)


def _parse_items(text: str, name: str) -> Iterator[RawRow]:
    """The items of a valid JSON array, each parsed for itself, so that a problem names its item."""
    decoder = json.JSONDecoder(parse_int=str)  # reads integers of any length
    position, number = text.index("[") + 1, 0
    while True:
        while text[position] in " \t\r\n,":
            position += 1
        if text[position] == "]":
            return
        number += 1
        _, end = decoder.raw_decode(text, position)
        yield _parse_row(text[position:end], f"{name}[{number}]")
        position = end
