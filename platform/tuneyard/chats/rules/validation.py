"""Rules for the messages of a chat: the order of roles, fields per role, and tool calls with their results.

Datasets follow all of them. API requests follow those for fields, and call_pairing's for calls. Each caller words the
problem's place in its own way.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tuneyard.chats.messages import ChatMessage, ChatTool, ToolCall

FIELD_ROLES = (("tool_calls", "assistant"), ("reasoning_content", "assistant"), ("tool_call_id", "tool"))
"""Fields of a message and the only role that has them."""


@dataclass(frozen=True, slots=True)
class MessageProblem:
    """A problem of the message at index `position` (from 0). `field` is the wrong field, or "" for the whole message.

    `text` continues a sentence that begins with the message: "(tool) answers no call: …".
    """

    position: int
    field: str
    text: str


def find_order_problem(roles: Sequence[str]) -> str | None:
    """What is wrong with the order of roles in a training example; None if it is right.

    The order is: optionally one system or developer message; then user and assistant in turn, beginning with user.
    After an assistant's call come tool messages, then the assistant again. The last message is the assistant's.
    """
    start = 1 if roles and roles[0] in ("system", "developer") else 0
    if "user" not in roles:
        return "there is no user message"
    allowed: tuple[str, ...] = ("user",)
    for position, role in enumerate(roles[start:], start=start + 1):
        if role not in allowed:
            return f"message {position} has role {role!r} where {' or '.join(map(repr, allowed))} belongs"
        allowed = {"user": ("assistant",), "assistant": ("user", "tool"), "tool": ("tool", "assistant")}[role]
    if roles[-1] != "assistant":
        return f"the last message has role {roles[-1]!r}, it must be 'assistant'"
    return None


def find_field_problems(messages: Sequence[ChatMessage]) -> Iterator[MessageProblem]:
    """Messages with a field that only another role has (see FIELD_ROLES)."""
    for position, message in enumerate(messages):
        for name, role in FIELD_ROLES:
            if getattr(message, name) and message.role != role:
                yield MessageProblem(position, name, f"({message.role}) has {name}, which only role {role!r} has")


def find_call_problems(messages: Sequence[ChatMessage]) -> Iterator[MessageProblem]:
    """Calls without a result, and results without a call, where each message has at most one call."""
    open_call: ToolCall | None = None
    for position, message in enumerate(messages):
        if message.role == "tool":
            if open_call is None:
                yield MessageProblem(position, "", "(tool) answers no call: a result must follow its call")
            elif message.tool_call_id and open_call.id and message.tool_call_id != open_call.id:
                text = f"(tool) answers {message.tool_call_id!r}, but the open call is {open_call.id!r}"
                yield MessageProblem(position, "tool_call_id", text)
        elif open_call is not None:
            name = open_call.function.name
            yield MessageProblem(position, "", f"({message.role}) comes before the result of the call of {name!r}")
        open_call = message.tool_calls[0] if message.tool_calls and message.role == "assistant" else None


def find_declaration_problems(messages: Sequence[ChatMessage], tools: Sequence[ChatTool]) -> Iterator[MessageProblem]:
    """Calls of functions that `tools` does not declare, and arguments that are not a JSON object."""
    declared = {tool.function.name for tool in tools}
    for position, message in enumerate(messages):
        for call in message.tool_calls:
            name = call.function.name
            if name not in declared:
                known = ", ".join(sorted(declared)) or "none"
                text = f"calls {name!r}, which `tools` does not declare (declared: {known})"
                yield MessageProblem(position, "tool_calls", text)
            if not _is_json_object(call.function.arguments):
                text = f"calls {name!r} with arguments that are not a JSON object: {call.function.arguments!r}"
                yield MessageProblem(position, "tool_calls", text)


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text, parse_constant=_refuse_constant), dict)
    except (ValueError, RecursionError):
        return False


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


MAX_SCHEMA_DEPTH = 64
"""Deepest nesting of a tool's schema: what the served API accepts by default, and half of what harmony renders."""


def find_schema_problem(tools: Sequence[ChatTool]) -> str | None:
    """Why a schema of the tools cannot be rendered, as a sentence; None if all can."""
    for tool in tools:
        values: list[tuple[Any, int]] = [(tool.function.parameters, 0)]
        while values:
            value, depth = values.pop()
            if depth > MAX_SCHEMA_DEPTH:
                return f"the schema of {tool.function.name!r} is nested more than {MAX_SCHEMA_DEPTH} levels deep."
            if isinstance(value, int) and abs(value) > sys.float_info.max:
                return f"the schema of {tool.function.name!r} holds a number that is too large for JSON readers."
            items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
            values += [(item, depth + 1) for item in items]
    return None
