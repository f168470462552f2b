"""Rows of CSV files with a header; cells can hold JSON arrays and objects."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import Any

from tuneyard.chats.readers.raw_row import RawRow
from tuneyard.chats.readers.text_lines import decode_lines, read_lines
from tuneyard.core.wording import count_of

MAX_CELL_CHARACTERS = 1 << 30


def read_csv(stream: Any, name: str) -> Iterator[RawRow]:
    """The rows of a CSV stream of the file `name`, as objects with the header's keys. Empty cells are left out."""
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    undecodable: list[RawRow] = []

    def text_lines() -> Iterator[str]:
        for _, line in decode_lines(read_lines(stream), name):
            if isinstance(line, RawRow):
                undecodable.append(line)
                yield "\n"  # keeps csv's line numbers right
            else:
                yield line + "\n"

    reader = csv.DictReader(text_lines(), strict=True)
    try:
        for row in reader:
            yield from undecodable
            undecodable.clear()
            where = f"{name}:{reader.line_num}"
            if None in row or None in row.values():
                fields = sum(value is not None for value in row.values())
                columns = len(reader.fieldnames or ())
                yield RawRow(where, problem=f"the row has {count_of(fields, 'field')}, the header has {columns}.")
            else:
                yield RawRow(where, {key: _parse_cell(value) for key, value in row.items() if value != ""})
    except csv.Error as e:
        yield RawRow(f"{name}:{reader.line_num}", problem=f"not valid CSV: {e}.")
    yield from undecodable


def _parse_cell(text: str) -> Any:
    """The parsed value of a cell that holds a JSON array or object; otherwise its text."""
    if text[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text
