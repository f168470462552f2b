"""Lists and counts in messages, worded alike everywhere."""

from __future__ import annotations

from collections.abc import Sequence


def count_of(number: int, noun: str) -> str:
    """`1 problem`, `3 problems`; the plural takes an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def first_of(names: Sequence[str], limit: int = 3, total: int | None = None) -> str:
    """Up to `limit` names and how many more there are: `a, b, c and 4 more`; `none` for no names.

    `total` is the number of all names where `names` holds only some of them.
    """
    if not names:
        return "none"
    more = (len(names) if total is None else total) - min(len(names), limit)
    return ", ".join(names[:limit]) + (f" and {more:,} more" if more > 0 else "")


def listed(lines: Sequence[str], total: int | None = None) -> str:
    """One line each, indented by two spaces; `total` counts the lines that are not shown too."""
    more = (len(lines) if total is None else total) - len(lines)
    return "\n".join(f"  {line}" for line in [*lines, *([f"… and {more:,} more"] if more > 0 else [])])
