"""RawRow: a dataset row as its file holds it, or the problem that kept it from being parsed."""

from __future__ import annotations

from typing import Any, NamedTuple


class RawRow(NamedTuple):
    """Either the parsed `value` of a row, or the `problem` that kept it from being parsed, as a sentence.

    `where` is the row's place, for example "chats.jsonl:17". `repeated_keys` are keys that stand twice in one of the
    row's JSON objects; the value holds the last of each.
    """

    where: str
    value: Any = None
    problem: str | None = None
    repeated_keys: tuple[str, ...] = ()
