"""Counts, lists and values in messages, in one wording."""

from __future__ import annotations

from collections.abc import Sequence

MAX_VALUE_CHARACTERS = 80


def count_of(number: int, noun: str) -> str:
    """`1 problem`, `3 problems`; the plural is the noun with an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def first_of(names: Sequence[str], limit: int = 3, total: int | None = None) -> str:
    """The first `limit` names and the number of the others: `a, b, c and 4 more`; `none` for no names.

    `total` is the number of all names, if `names` holds only some of them.
    """
    if not names:
        return "none"
    more = (len(names) if total is None else total) - min(len(names), limit)
    return ", ".join(names[:limit]) + (f" and {more:,} more" if more > 0 else "")


def listed(lines: Sequence[str], total: int | None = None) -> str:
    """The lines, each indented by two spaces, and a last line `… and 4 more` if `total` is larger than their number."""
    more = (len(lines) if total is None else total) - len(lines)
    return "\n".join(f"  {line}" for line in [*lines, *([f"… and {more:,} more"] if more > 0 else [])])


def short_repr(value: object) -> str:
    """The value's `repr`, cut to MAX_VALUE_CHARACTERS characters."""
    text = repr(value)
    return text if len(text) <= MAX_VALUE_CHARACTERS else text[: MAX_VALUE_CHARACTERS - 3] + "…"
