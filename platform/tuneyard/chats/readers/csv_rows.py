"""Rows of CSV files with a header. Every cell is text, whatever it spells."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import chain

from tuneyard.chats.readers.file_kind import csv_delimiter, format_suffix
from tuneyard.chats.readers.raw_row import RawRow
from tuneyard.chats.readers.text_lines import ByteStream, decode_lines, read_lines
from tuneyard.core.errors import DatasetError
from tuneyard.core.wording import count_of, first_of

MAX_CELL_CHARACTERS = 1 << 30


def read_csv(stream: ByteStream, name: str) -> Iterator[RawRow]:
    """The rows of a CSV stream of the file `name`, as objects with the header's keys. Empty cells are left out.

    Cells stand between commas, or between semicolons or tabs if the header does. Raises DatasetError if the header
    names a column twice.
    """
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    unreadable: list[RawRow] = []

    def text_lines() -> Iterator[str]:
        for _, line in decode_lines(read_lines(stream), name):
            if isinstance(line, RawRow):
                unreadable.append(line)
                yield "\n"  # keeps csv's line numbers right
            else:
                yield line + "\n"

    lines = text_lines()
    header = next(lines, "")
    delimiter = csv_delimiter(header.encode()) or ("\t" if format_suffix(name) == ".tsv" else ",")
    reader = csv.DictReader(chain([header], lines), strict=True, delimiter=delimiter)
    try:
        _check_header(reader.fieldnames or (), name)
        for row in reader:
            yield from unreadable
            unreadable.clear()
            where = f"{name}:{reader.line_num}"
            if None in row or None in row.values():
                fields = sum(value is not None for value in row.values())
                columns = len(reader.fieldnames or ())
                yield RawRow(where, problem=f"the row has {count_of(fields, 'field')}, the header has {columns}.")
            else:
                yield RawRow(where, {key: value for key, value in row.items() if value != ""})
    except csv.Error as e:
        yield RawRow(f"{name}:{reader.line_num}", problem=f"not valid CSV: {e}.")
    yield from unreadable


def _check_header(columns: Sequence[str], name: str) -> None:
    if repeated := sorted({column for column in columns if columns.count(column) > 1}):
        raise DatasetError(f"{name}:1: the header names a column twice: {first_of(repeated)}. Rename one of them.")
