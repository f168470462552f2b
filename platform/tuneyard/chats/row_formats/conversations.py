"""Converters of rows that hold a list of turns: OpenAI, ShareGPT, LMSYS and WildChat, UltraChat."""

from __future__ import annotations

from typing import Any

from tuneyard.chats.row_formats.call_fields import call_of
from tuneyard.chats.row_formats.chat_row import (
    ChatRow,
    Finding,
    FormatProblem,
    is_empty,
    parse_if_json,
    take_list,
)
from tuneyard.chats.row_formats.message_fields import ROLES, normalize_messages
from tuneyard.core.wording import short_repr

CALL_ROLES = ("function_call", "tool_call")
"""ShareGPT's names for an assistant message that is a call."""


def from_openai(row: dict[str, Any]) -> ChatRow:
    """Converts OpenAI's fine-tuning format, and its usual variations."""
    return _from_turns(row, "messages")


def from_conversation(row: dict[str, Any]) -> ChatRow:
    """Converts `conversation`, a list of messages with `role` and `content`, as LMSYS and WildChat have it."""
    return _from_turns(row, "conversation")


def _from_turns(row: dict[str, Any], column: str) -> ChatRow:
    findings: list[Finding] = []
    messages = normalize_messages(take_list(row, column), findings, column)
    return ChatRow(messages, used={column}, findings=findings)


def from_sharegpt(row: dict[str, Any]) -> ChatRow:
    """Converts ShareGPT's `conversations` of `from` and `value`; turns with `role` are read as OpenAI's messages."""
    findings: list[Finding] = []
    messages = messages_of_turns(take_list(row, "conversations"), findings, "conversations")
    return ChatRow(messages, used={"conversations"}, findings=findings)


def messages_of_turns(turns: list[Any], findings: list[Finding], place: str) -> list[Any]:
    """The messages of a list of turns, each with `from` and `value`, or with `role` and `content`."""
    messages = [_from_turn(parse_if_json(turn), number) for number, turn in enumerate(turns, start=1)]
    return normalize_messages(messages, findings, place)


def _from_turn(turn: Any, number: int) -> Any:
    """A turn with `from` and `value` as a message with `role` and `content`."""
    if isinstance(turn, dict) and "role" in turn:
        return turn
    source = str(turn.get("from")).lower() if isinstance(turn, dict) else ""
    if (source not in ROLES and source not in CALL_ROLES) or not isinstance(turn.get("value"), str):
        known = ", ".join((*ROLES, *CALL_ROLES))
        raise FormatProblem(f"turn {number}: expected `from` (one of {known}) and `value`, found {short_repr(turn)}")
    others = {key: value for key, value in turn.items() if key not in ("from", "value")}
    if source not in CALL_ROLES:
        return _joined(others, {"role": ROLES[source], "content": turn["value"]}, number)
    calls = parse_if_json(turn["value"])
    calls = calls if isinstance(calls, list) else [calls]
    if not calls or not all(isinstance(call, dict) and "name" in call for call in calls):
        raise FormatProblem(
            f"turn {number}: a call must be JSON with `name` and `arguments`, found {short_repr(turn['value'])}"
        )
    unknown = sorted({key for call in calls for key in call} - {"name", "arguments", "id"})
    if unknown:
        raise FormatProblem(f"turn {number}: a call has the unknown field {unknown[0]!r}: {short_repr(turn['value'])}")
    made = [
        call_of(call["name"], call.get("arguments", {})) | ({"id": call["id"]} if "id" in call else {})
        for call in calls
    ]
    return _joined(others, {"role": "assistant", "tool_calls": made}, number)


def _joined(others: dict[str, Any], message: dict[str, Any], number: int) -> dict[str, Any]:
    """The message with the turn's other fields. Raises FormatProblem if one of them says the same in another way."""
    for field in others.keys() & message.keys():
        if not is_empty(others[field]) and others[field] != message[field]:
            raise FormatProblem(f"turn {number}: has both `value` and `{field}`, and they differ", "given_twice")
    return others | message


def from_ultrachat(row: dict[str, Any]) -> ChatRow:
    """Converts `data`, a list of texts of user and assistant in turn; a question at the end has no answer."""
    texts = take_list(row, "data")
    for text in texts:
        if not isinstance(text, str):
            raise FormatProblem(f"expected texts in `data`, found {short_repr(text)}")
    roles = ("user", "assistant")
    messages = [{"role": roles[number % 2], "content": text} for number, text in enumerate(texts)]
    return ChatRow(messages, used={"data"})
