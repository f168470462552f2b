"""Rows of JSONL files (one object per line) and JSON files (an array of objects, or SQuAD's nested form)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from tuneyard.chats.readers.raw_row import RawRow
from tuneyard.chats.readers.text_lines import decode_lines, read_lines
from tuneyard.core.errors import DatasetError

MAX_JSON_BYTES = 1 << 30
"""Largest JSON file: an array is parsed as a whole, in memory."""


def read_jsonl(stream: Any, name: str) -> Iterator[RawRow]:
    """The rows of a JSONL stream of the file `name`. Empty lines are skipped."""
    yield from _parse_lines(read_lines(stream), name)


def _parse_lines(lines: Iterable[bytes], name: str) -> Iterator[RawRow]:
    for number, line in decode_lines(lines, name):
        if isinstance(line, RawRow):
            yield line
        elif line.strip():
            where = f"{name}:{number}"
            try:
                yield RawRow(where, json.loads(line))
            except json.JSONDecodeError as e:
                problem = f"not valid JSON at column {e.colno}: {e.msg}. Write one complete object per line."
                yield RawRow(where, problem=problem)
            except RecursionError:
                yield RawRow(where, problem="the JSON is nested too deeply for a chat row.")


def read_json(stream: Any, name: str, size_bytes: int) -> Iterator[RawRow]:
    """The rows of a JSON stream: the items of its array, or of the array `data` of its object.

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
        value = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise DatasetError(f"{name}:{line}: not UTF-8: byte 0x{data[e.start]:02x}.") from e
    except json.JSONDecodeError as e:
        if e.msg == "Extra data":  # JSONL in a file named .json
            yield from _parse_lines(data.split(b"\n"), name)
            return
        raise DatasetError(f"{name}:{e.lineno}: not valid JSON at column {e.colno}: {e.msg}.") from e
    except RecursionError as e:
        raise DatasetError(f"{name}: the JSON is nested too deeply for a dataset.") from e
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        value = value["data"]
    rows = value if isinstance(value, list) else [value]
    for number, row in enumerate(_flatten_squad(rows), start=1):
        yield RawRow(f"{name}[{number}]", row)


def _flatten_squad(rows: list[Any]) -> Iterator[Any]:
    """One row per question of a SQuAD file, which nests questions in paragraphs in articles; other rows unchanged."""
    for row in rows:
        if isinstance(row, dict) and isinstance(row.get("paragraphs"), list):
            for paragraph in row["paragraphs"]:
                for question in paragraph.get("qas", []):
                    answers = {"text": [answer["text"] for answer in question.get("answers", [])]}
                    yield {"context": paragraph["context"], "question": question["question"], "answers": answers}
        else:
            yield row
