"""What all formats share: columns for system message, tools, reasoning, weight; every other column is named."""

from __future__ import annotations

from typing import Any

from tuneyard.chats.row_formats.chat_row import (
    ChatRow,
    Finding,
    FormatProblem,
    holds_nan,
    is_empty,
    is_nan,
    parse_if_json,
)
from tuneyard.chats.row_formats.column_names import (
    HARMLESS_COLUMNS,
    MEANINGFUL_COLUMNS,
    REASONING_COLUMNS,
    ROW_WEIGHT_COLUMNS,
    SYSTEM_COLUMNS,
    TOOL_COLUMNS,
)
from tuneyard.chats.row_formats.message_fields import message_weight, one_value
from tuneyard.chats.row_formats.tool_fields import normalize_tools
from tuneyard.core.wording import short_repr

_SHARED = frozenset((*SYSTEM_COLUMNS, *TOOL_COLUMNS, *REASONING_COLUMNS, *ROW_WEIGHT_COLUMNS))
_REASONING_SWITCHES = ("on", "off")
"""Values of Nemotron's column `reasoning`, which says whether the answer has reasoning."""


def complete(row: dict[str, Any], chat: ChatRow) -> ChatRow:
    """The chat with the columns that any format may have; every column that it does not use becomes metadata.

    A column that is neither used nor harmless is named in a finding. Raises FormatProblem if a column contradicts the
    messages.
    """
    if not _SHARED.isdisjoint(row):
        _add_system(row, chat)
        _add_tools(row, chat)
        _add_reasoning(row, chat)
        _add_weight(row, chat)
    if len(row) > len(chat.used):
        _keep_others(row, chat)
    return chat


def _values(row: dict[str, Any], columns: tuple[str, ...], chat: ChatRow) -> dict[str, Any]:
    """The columns that hold something and are not used yet."""
    return {name: row[name] for name in columns if name not in chat.used and not is_empty(row.get(name))}


def _add_system(row: dict[str, Any], chat: ChatRow) -> None:
    values = _values(row, SYSTEM_COLUMNS, chat)
    for name, value in values.items():
        if not isinstance(value, str):
            raise FormatProblem(
                f"expected a text `{name}`, found {short_repr(value)}", "nan_value" if is_nan(value) else "wrong_format"
            )
    if not values:
        return
    text = one_value(list(values.values()), "the system message")
    first = chat.messages[0] if chat.messages and isinstance(chat.messages[0], dict) else {}
    if first.get("role") in ("system", "developer"):
        one_value([text, first.get("content")], "the system message")
    else:
        chat.messages.insert(0, {"role": "system", "content": text})
    chat.used |= values.keys()


def _add_tools(row: dict[str, Any], chat: ChatRow) -> None:
    values = _values(row, TOOL_COLUMNS, chat)
    declared = [normalize_tools(value, chat.findings, name) for name, value in values.items()]
    declared = [tools for tools in (*declared, chat.tools) if tools]
    if declared:
        chat.tools = one_value(declared, "the tools")
    chat.used |= values.keys()


def _add_reasoning(row: dict[str, Any], chat: ChatRow) -> None:
    values = {
        name: value
        for name, value in _values(row, REASONING_COLUMNS, chat).items()
        if isinstance(value, str) and value.lower() not in _REASONING_SWITCHES
    }
    answers = [m for m in chat.messages if isinstance(m, dict) and m.get("role") == "assistant"]
    if not values or len(answers) != 1:
        return
    own = answers[0].get("reasoning_content")
    given = [*values.values(), *([] if is_empty(own) else [own])]
    position = next(i for i, message in enumerate(chat.messages) if message is answers[0])
    chat.messages[position] = answers[0] | {"reasoning_content": one_value(given, "the reasoning")}
    chat.used |= values.keys()


def _add_weight(row: dict[str, Any], chat: ChatRow) -> None:
    for name, value in _values(row, ROW_WEIGHT_COLUMNS, chat).items():
        try:
            weight = message_weight({name: value}, "the row")
        except FormatProblem:
            continue  # The column is named later as one that cannot be used.
        for position, message in enumerate(chat.messages):
            if isinstance(message, dict) and message.get("role") == "assistant":
                own = message.get("weight")
                given = [weight] if own is None else [own, weight]
                chat.messages[position] = message | {"weight": one_value(given, "the weight")}
        chat.used.add(name)


def _keep_others(row: dict[str, Any], chat: ChatRow) -> None:
    """Keeps the other columns as metadata, and names those that are not known as harmless."""
    texts: list[str] | None = None
    given = row.get("metadata")
    for name, value in row.items():
        if name in chat.used or name in ("metadata", "parallel_tool_calls"):
            continue
        chat.metadata[name] = value
        if is_empty(value):
            continue
        if holds_nan(value, name):
            chat.findings.append(Finding("nan_metadata", f"`{name}` holds NaN or Infinity", name))
        if name in HARMLESS_COLUMNS or _is_switch(name, value):
            continue
        if texts is None:
            texts = _texts_of(chat)
        if isinstance(value, str) and value in texts:
            continue
        if name not in MEANINGFUL_COLUMNS:
            chat.findings.append(Finding("unknown_column", f"`{name}` is not used: {short_repr(value)}", name))
        elif isinstance(value, str) and _repeats(value, row, chat):
            chat.findings.append(
                Finding("repeated_column", f"`{name}` repeats the chat in another form and is not used", name)
            )
        else:
            text = f"`{name}` looks like a part of the chat and cannot be used: {short_repr(value)}"
            chat.findings.append(Finding("meaningful_column", text, name))
    parsed = parse_if_json(given)
    if isinstance(parsed, dict):
        if holds_nan(parsed, "metadata"):
            chat.findings.append(Finding("nan_metadata", "`metadata` holds NaN or Infinity", "metadata"))
        chat.metadata |= parsed
    elif not is_empty(given):
        chat.metadata["metadata"] = given


def _is_switch(name: str, value: Any) -> bool:
    """Whether the column only says if an answer has reasoning."""
    if name not in REASONING_COLUMNS:
        return False
    return isinstance(value, bool) or (isinstance(value, str) and value.lower() in _REASONING_SWITCHES)


def _repeats(value: str, row: dict[str, Any], chat: ChatRow) -> bool:
    """Whether a text holds every text that the chat was made of, as a rendered prompt does."""
    parts = [row[name] for name in chat.used if isinstance(row.get(name), str) and row[name]] or _texts_of(chat)
    return bool(parts) and all(part in value for part in parts)


def _texts_of(chat: ChatRow) -> list[str]:
    """The texts of the chat, which a column may repeat."""
    fields = (message for message in chat.messages if isinstance(message, dict))
    values = (message.get(name) for message in fields for name in ("content", "reasoning_content"))
    return [value for value in values if isinstance(value, str) and value]
