"""RawRow: a dataset row as its file holds it, or the problem that kept it from being parsed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RawRow:
    """Either the parsed `value` of a row, or the `problem` that kept it from being parsed, as a sentence.

    `where` is the row's place, for example "chats.jsonl:17".
    """

    where: str
    value: Any = None
    problem: str | None = None


def drop_nulls(value: Any) -> Any:
    """The value without null members, at any depth. Columnar files store every key in every row, absent ones as null.

    Null items of a list stay.
    """
    if isinstance(value, dict):
        return {key: drop_nulls(item) for key, item in value.items() if item is not None}
    return [drop_nulls(item) for item in value] if isinstance(value, list) else value
