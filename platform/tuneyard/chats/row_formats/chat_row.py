"""ChatRow: a row converted to a chat, with the columns that the chat uses and the problems found on the way."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tuneyard.chats.strict_json import parse_json
from tuneyard.core.wording import short_repr


class FormatProblem(Exception):
    """A row cannot become a chat. `kind` is a name in PROBLEMS; the message says why, without a full stop."""

    def __init__(self, text: str, kind: str = "wrong_format") -> None:
        super().__init__(text, kind)
        self.kind = kind

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem of a row that can still be trained on: its name in PROBLEMS, a sentence without a full stop, and what
    it has in common with findings of other rows (see RowProblem.group).
    """

    kind: str
    text: str
    group: str | None = None


@dataclass(slots=True)
class ChatRow:
    """A row as a chat in OpenAI's format.

    `messages` and `tools` are not validated yet. `used` names the columns that became a part of the chat; what the
    row's other columns are is decided later. `metadata` is kept and never rendered.
    """

    messages: list[Any]
    tools: list[Any] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)


MAX_DEPTH = 100
"""Deepest nesting of a value that is kept with a chat; serializers and pickle have limits of their own."""

_NEVER_NAN = frozenset({str, int, bool, type(None)})
"""Types of values that are not NaN and hold none."""


def _is_plain(value: Any) -> bool:
    """Whether a value is text, an integer or the like, or a list of such: most metadata is, and this is told fast."""
    kind = type(value)
    return kind in _NEVER_NAN or (kind is list and _NEVER_NAN.issuperset(map(type, value)))


def holds_nan(value: Any, name: str) -> bool:
    """Whether NaN or Infinity stands anywhere in a value. Raises FormatProblem if it is nested too deeply."""
    if isinstance(value, str) or (type(value) is dict and all(map(_is_plain, value.values()))):
        return False
    found = False
    level = [value]
    for depth in range(MAX_DEPTH + 1):
        if _NEVER_NAN.issuperset(map(type, level)):
            break
        inner: list[Any] = []
        for item in level:
            if isinstance(item, float):
                found = found or item - item != 0.0  # true for NaN and both infinities
            elif isinstance(item, dict | list | tuple):
                if depth == MAX_DEPTH:
                    raise FormatProblem(f"`{name}` is nested too deeply: more than {MAX_DEPTH} levels")
                inner += item.values() if isinstance(item, dict) else item
        level = inner
    return found


def is_empty(value: Any) -> bool:
    """Whether a value says nothing: null, or an empty text, list or object."""
    return value is None or value in ("", [], {}, ())


def is_nan(value: Any) -> bool:
    """Whether a value is NaN, which pandas writes for a missing one."""
    return isinstance(value, float) and value != value


def take_text(row: Mapping[str, Any], column: str) -> str:
    """The text of a column; numbers as they are written. Raises FormatProblem for anything else."""
    value = row.get(column)
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        if is_nan(value) or value in (float("inf"), float("-inf")):
            raise FormatProblem(f"`{column}` is {value}, not a text", "nan_value")
        return str(value)
    raise FormatProblem(f"expected a text `{column}`, found {short_repr(value)}")


def take_list(row: Mapping[str, Any], column: str) -> list[Any]:
    """The list of a column, which may be JSON text, or a list of JSON texts. Raises FormatProblem for anything else."""
    value = parse_if_json(row.get(column))
    if isinstance(value, tuple):
        value = list(value)
    if not isinstance(value, list):
        raise FormatProblem(f"expected a list `{column}`, found {short_repr(value)}")
    return value


def parse_if_json(value: Any) -> Any:
    """The array or object of JSON text, as which some datasets store them; any other value unchanged.

    Raises FormatProblem if a key stands twice in an object.
    """
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        parsed, repeated = parse_json(value)
    except (ValueError, RecursionError):
        return value
    if repeated:
        raise FormatProblem(f"the JSON text {short_repr(value)} has the key {repeated[0]!r} twice", "given_twice")
    return parsed


def parse_literal(text: str) -> Any:
    """The value of JSON text, or of Python's notation, as which some datasets spell calls; None if it is neither.

    Only literals are read; nothing is evaluated.
    """
    try:
        value, repeated = parse_json(text)
        return None if repeated else value
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None


def report_unknown(
    item: Mapping[str, Any], known: Iterable[str], place: str, meaningful: Iterable[str], findings: list[Finding]
) -> None:
    """Adds a finding for each key of a nested object that is not known and holds something.

    `place` names the object in messages, for example `messages.N`.
    """
    for key, value in item.items():
        if key in known or is_empty(value):
            continue
        path = f"{place}.{key}"
        if key in meaningful:
            text = f"`{path}` looks like a part of the chat and cannot be used: {short_repr(value)}"
            findings.append(Finding("meaningful_column", text, path))
        else:
            findings.append(Finding("unknown_column", f"`{path}` is not used: {short_repr(value)}", path))
