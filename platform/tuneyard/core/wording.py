"""Counts, lists and values in messages, in one wording."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

MAX_VALUE_CHARACTERS = 80

MAX_LINES = 100
"""Lines of a list in a message: a folder of somebody else can have a million problems."""


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
    """The first MAX_LINES lines, each indented by two spaces, and a last line `… and 4 more` if there are others.

    `total` is the number of all lines, if `lines` holds only some of them.
    """
    shown = lines[:MAX_LINES]
    more = (len(lines) if total is None else total) - len(shown)
    return "\n".join(f"  {line}" for line in [*shown, *([f"… and {more:,} more"] if more > 0 else [])])


def printable(text: str, keep: str = "") -> str:
    """The text with characters escaped that move the cursor, control a terminal, reverse text or cannot be encoded.

    For names that others chose. The characters in `keep` stay as they are.
    """
    return "".join(
        character
        if character in keep or unicodedata.category(character) not in _CONTROLS
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


_CONTROLS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of control and format characters, surrogates, and separators of lines."""


def short_repr(value: object) -> str:
    """The value's `repr`, cut to MAX_VALUE_CHARACTERS characters."""
    try:
        text = repr(value)
    except RecursionError:
        text = f"a {type(value).__name__} nested too deeply to be shown"
    return text if len(text) <= MAX_VALUE_CHARACTERS else text[: MAX_VALUE_CHARACTERS - 3] + "…"
