"""Column mapping: the columns and templates of `data.columns` as the columns that a format reads."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from tuneyard.chats.row_formats.chat_row import FormatProblem, is_empty, is_nan
from tuneyard.core.wording import short_repr

REQUIRED_TARGETS = ("messages", "prompt", "completion", "chosen", "rejected", "label")
"""Parts that every row must have if they are mapped; the others may be missing."""


def map_columns(row: Any, columns: Mapping[str, str]) -> Any:
    """The row with a column for each part that `columns` names; the columns they are made of are gone.

    Columns that are not mapped stay. One with the name of a part is kept as `NAME (column)`. Raises FormatProblem for a
    required column that is missing.
    """
    if not columns or not isinstance(row, dict):
        return row
    used: set[str] = set()
    mapped: dict[str, Any] = {}
    for target, source in columns.items():
        is_template = "{" in source or "}" in source
        names = [name for _, name in _pieces(source) if name is not None] if is_template else [source]
        missing = [name for name in names if is_empty(row.get(name)) or is_nan(row.get(name))]
        if missing and target in REQUIRED_TARGETS:
            raise FormatProblem(
                f"data.columns.{target} needs the column `{missing[0]}`, which is missing or empty; found "
                f"{short_repr(row)}"
            )
        used.update(names)
        if not missing:
            mapped[target] = _fill(source, row) if is_template else row[source]
    for name, value in row.items():
        if name not in used:
            mapped[f"{name} (column)" if name in columns else name] = value
    return mapped


def _fill(template: str, row: dict[str, Any]) -> str:
    return "".join(text + ("" if name is None else _as_text(row[name])) for text, name in _pieces(template))


@lru_cache(maxsize=64)
def _pieces(template: str) -> tuple[tuple[str, str | None], ...]:
    """Each text of a template with the column that follows it, if one does."""
    return tuple((text, name) for text, name, _, _ in string.Formatter().parse(template))


def _as_text(value: Any) -> str:
    """A value in a template: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
