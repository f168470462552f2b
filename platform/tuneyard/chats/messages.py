"""Chats as the whole project sees them: OpenAI's message fields, strictly typed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from tuneyard.core.strict_model import FrozenModel

Role = Literal["system", "developer", "user", "assistant", "tool"]


class ToolFunction(FrozenModel):
    """What a function is called with. `parameters` is a JSON schema."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str = ""
    parameters: dict[str, Any] | None = None


class ChatTool(FrozenModel):
    """A function that the model may call."""

    type: Literal["function"] = "function"
    function: ToolFunction


class FunctionCall(FrozenModel):
    """Name and arguments of a call; `arguments` is a JSON object as text."""

    name: str
    arguments: str


class ToolCall(FrozenModel):
    """One call by the assistant."""

    id: str = ""
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(FrozenModel):
    """One message.

    `reasoning_content` is what harmony calls the analysis; only assistants have it. An assistant's
    `tool_calls` are answered by messages of role `tool`, with the call's id. `weight` 0 keeps an
    assistant's turn out of the loss.
    """

    role: Role
    content: str = ""
    reasoning_content: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    weight: Literal[0, 1] | None = None


class ChatExample(FrozenModel):
    """One training or evaluation conversation; it ends with an assistant message.

    `source` is where it came from ("chats.jsonl:17"), for messages about it.
    `metadata` is carried along untouched and never rendered.
    """

    messages: tuple[ChatMessage, ...]
    tools: tuple[ChatTool, ...] = ()
    metadata: dict[str, Any] = Field(default_factory=dict)
    source: str = ""

    @property
    def last_prompt(self) -> tuple[ChatMessage, ...]:
        """What the last assistant message answers."""
        return self.messages[: self._last]

    @property
    def last_answer(self) -> ChatMessage:
        """The last assistant message."""
        return self.messages[self._last]

    @property
    def _last(self) -> int:
        return max(i for i, message in enumerate(self.messages) if message.role == "assistant")


def request_fields(messages: Sequence[ChatMessage], tools: Sequence[ChatTool]) -> dict[str, Any]:
    """`messages` and `tools` of a chat completion's request."""
    sent = [message.model_dump(exclude_defaults=True) | {"content": message.content} for message in messages]
    for message in sent:
        message.pop("weight", None)
    called = [tool.model_dump(exclude_none=True) for tool in tools]
    return {"messages": sent, **({"tools": called} if called else {})}


def message_order_problem(roles: Sequence[str], *, for_completion: bool) -> str | None:
    """What is wrong with the order of roles, in words, or None.

    Right is: an optional first system or developer message, then user and assistant in turn,
    starting with user; after an assistant's call, tool messages and the assistant again. A prompt
    for completion ends with user or tool, an example with assistant.
    """
    start = 1 if roles and roles[0] in ("system", "developer") else 0
    if "user" not in roles:
        return "there is no user message"
    allowed: tuple[str, ...] = ("user",)
    for position, role in enumerate(roles[start:], start=start + 1):
        if role not in allowed:
            return f"message {position} has role {role!r} where {' or '.join(map(repr, allowed))} belongs"
        allowed = {"user": ("assistant",), "assistant": ("user", "tool"), "tool": ("tool", "assistant")}[role]
    last = ("user", "tool") if for_completion else ("assistant",)
    if roles[-1] not in last:
        return f"the last message has role {roles[-1]!r}, it must be {' or '.join(map(repr, last))}"
    return None


@dataclass(frozen=True, slots=True)
class MessageFault:
    """What is wrong with the message at `position` (from 0), or with one field of it."""

    position: int
    field: str
    text: str


def field_faults(messages: Sequence[ChatMessage]) -> Iterator[MessageFault]:
    """Fields that only another role has."""
    for position, message in enumerate(messages):
        for name, role in (("tool_calls", "assistant"), ("reasoning_content", "assistant"), ("tool_call_id", "tool")):
            if getattr(message, name) and message.role != role:
                yield MessageFault(position, name, f"({message.role}) has {name}, which only role {role!r} has")


def call_faults(messages: Sequence[ChatMessage]) -> Iterator[MessageFault]:
    """Calls and results that do not follow one another: harmony calls one function, and then knows its result."""
    open_call: ToolCall | None = None
    for position, message in enumerate(messages):
        if len(message.tool_calls) > 1:
            text = f"calls {len(message.tool_calls)} tools at once; harmony calls one at a time: "
            yield MessageFault(position, "tool_calls", text + "write call, result, call, result")
        if message.role == "tool":
            if open_call is None:
                yield MessageFault(position, "", "(tool) answers no call: a result follows its call")
            elif message.tool_call_id and open_call.id and message.tool_call_id != open_call.id:
                text = f"(tool) answers {message.tool_call_id!r}, the open call is {open_call.id!r}"
                yield MessageFault(position, "tool_call_id", text)
        elif open_call is not None:
            name = open_call.function.name
            yield MessageFault(position, "", f"({message.role}) comes before the result of the call of {name!r}")
        open_call = message.tool_calls[0] if message.tool_calls and message.role == "assistant" else None


def declaration_faults(messages: Sequence[ChatMessage], tools: Sequence[ChatTool]) -> Iterator[MessageFault]:
    """Calls of what `tools` does not declare, and arguments that are no JSON object."""
    declared = {tool.function.name for tool in tools}
    for position, message in enumerate(messages):
        for call in message.tool_calls:
            name = call.function.name
            if name not in declared:
                known = ", ".join(sorted(declared)) or "none"
                text = f"calls {name!r}, which `tools` does not declare (declared: {known})"
                yield MessageFault(position, "tool_calls", text)
            if not _is_json_object(call.function.arguments):
                text = f"calls {name!r} with arguments that are not a JSON object: {call.function.arguments!r}"
                yield MessageFault(position, "tool_calls", text)


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
