"""One message of a row in OpenAI's form: its usual variations become strict fields, and every other field is named."""

from __future__ import annotations

from typing import Any

from tuneyard.chats.row_formats.call_fields import normalize_calls
from tuneyard.chats.row_formats.chat_row import Finding, FormatProblem, is_empty, is_nan, parse_if_json, report_unknown
from tuneyard.chats.row_formats.column_names import (
    HARMLESS_MESSAGE_FIELDS,
    MEANINGFUL_COLUMNS,
    REASONING_COLUMNS,
    WEIGHT_COLUMNS,
)
from tuneyard.core.wording import short_repr

ROLES = {
    "system": "system", "developer": "developer", "human": "user", "user": "user", "prompter": "user",
    "gpt": "assistant", "chatgpt": "assistant", "assistant": "assistant", "model": "assistant", "bing": "assistant",
    "bot": "assistant", "observation": "tool", "function_response": "tool", "tool": "tool", "function": "tool",
    "tool_response": "tool", "ipython": "tool",
}  # fmt: skip
"""OpenAI's role for each name of a role in datasets."""

_USED_FIELDS = frozenset(
    {"role", "content", "tool_calls", "function_call", "tool_call_id", "refusal", *REASONING_COLUMNS, *WEIGHT_COLUMNS}
)
_HARMLESS_PART_FIELDS = frozenset({"type", "annotations", "cache_control", "id", "index", "signature"})


def normalize_messages(messages: list[Any], findings: list[Finding], place: str = "messages") -> list[Any]:
    """The messages with common variations in OpenAI's form; invalid values stay for the validation.

    A message may be JSON text. An empty system message is left out. Raises FormatProblem for contradictions and for
    content that is not text.
    """
    normalized = [
        message if _is_normal(message) else _normalize(message, number, findings, place)
        for number, message in enumerate(messages, start=1)
    ]
    return [m for m in normalized if not (isinstance(m, dict) and len(m) == 2 and _is_empty_system(m))]


def _is_empty_system(message: dict[str, Any]) -> bool:
    if message.get("role") not in ("system", "developer"):
        return False
    text = message.get("content")
    return isinstance(text, str) and not text.strip()


def _is_normal(message: Any) -> bool:
    """Whether a message is in OpenAI's form already, with a text and perhaps reasoning, as most are."""
    if type(message) is not dict or type(message.get("content")) is not str:
        return False
    if message.get("role") not in ("system", "user", "assistant"):
        return False
    if len(message) == 2:
        return True
    reasoning = message.get("reasoning_content")
    return len(message) == 3 and type(reasoning) is str and reasoning != ""


def _normalize(message: Any, number: int, findings: list[Finding], place: str) -> Any:
    if isinstance(message, str):
        message = parse_if_json(message)
    if not isinstance(message, dict):
        return message
    role = message.get("role")
    subject = f"message {number}"
    fields: dict[str, Any] = {}
    if "role" in message:
        fields["role"] = ROLES.get(role.lower(), role) if isinstance(role, str) else role
    thoughts = [message[key] for key in REASONING_COLUMNS if not is_empty(message.get(key))]
    content = message.get("content")
    if isinstance(content, list | tuple):
        content = _join_parts(content, subject, thoughts, findings, place)
    if is_nan(content):
        raise FormatProblem(f"{subject}: `content` is NaN, not a text", "nan_value")
    if not is_empty(refusal := message.get("refusal")):
        if not is_empty(content) and content != refusal:
            raise FormatProblem(f"{subject}: has both `content` and `refusal`", "given_twice")
        content = refusal
    if content is not None:
        fields["content"] = content
    if thoughts:
        fields["reasoning_content"] = one_value(thoughts, f"{subject}: the reasoning")
    if calls := normalize_calls(message, subject, findings, place):
        fields["tool_calls"] = calls
    if not is_empty(message.get("tool_call_id")):
        fields["tool_call_id"] = message["tool_call_id"]
    if (weight := message_weight(message, subject)) is not None:
        fields["weight"] = weight
    report_unknown(
        message, _USED_FIELDS | HARMLESS_MESSAGE_FIELDS, f"{place}.N", {"audio", *MEANINGFUL_COLUMNS}, findings
    )
    return fields


def one_value(values: list[Any], subject: str) -> Any:
    """The value if all are equal. Raises FormatProblem if they differ."""
    for value in values[1:]:
        if value != values[0]:
            raise FormatProblem(
                f"{subject} is given twice and differs: {short_repr(values[0])} and {short_repr(value)}", "given_twice"
            )
    return values[0]


def message_weight(fields: dict[str, Any], subject: str) -> int | None:
    """The weight 0 or 1 that one of WEIGHT_COLUMNS gives; None without one. Raises FormatProblem for other values."""
    weights = []
    for key in WEIGHT_COLUMNS:
        value = fields.get(key)
        if value is None:
            continue
        number = {"0": 0, "1": 1, "true": 1, "false": 0}.get(value.lower()) if isinstance(value, str) else value
        if not isinstance(number, int | float) or number not in (0, 1):
            kind = "nan_value" if is_nan(value) else "wrong_field"
            raise FormatProblem(f"{subject}: `{key}` must be 0 or 1, found {short_repr(value)}", kind)
        weights.append(int(number))
    return one_value(weights, f"{subject}: the weight") if weights else None


def _join_parts(parts: Any, subject: str, reasoning: list[Any], findings: list[Finding], place: str) -> str:
    """The text of a list of parts. Reasoning parts go to `reasoning`. Raises FormatProblem for a part of other kind."""
    texts: list[str] = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        kind = part.get("type", "text") if isinstance(part, dict) else None
        field = {"thinking": "thinking", "reasoning": "reasoning", "refusal": "refusal"}.get(
            kind if isinstance(kind, str) else "", "text"
        )
        text = part.get(field) if isinstance(part, dict) else None
        if kind not in ("text", "input_text", "output_text", "thinking", "reasoning", "refusal") or not isinstance(
            text, str
        ):
            raise FormatProblem(f"{subject}: `content` has a part that is not text: {short_repr(part)}", "not_text")
        if field in ("thinking", "reasoning"):
            if text:
                reasoning.append(text)
        else:
            texts.append(text)
        report_unknown(part, {field, *_HARMLESS_PART_FIELDS}, f"{place}.N.content.N", MEANINGFUL_COLUMNS, findings)
    return "".join(texts)
