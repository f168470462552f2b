"""Chats as the whole project sees them: OpenAI's message fields, strictly typed."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["system", "developer", "user", "assistant"]


class ChatMessage(BaseModel):
    """One message. `reasoning_content` is what harmony calls the analysis; only assistants have it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Role
    content: str
    reasoning_content: str | None = None


class ChatExample(BaseModel):
    """One training or evaluation conversation; it ends with an assistant message.

    `source` is where it came from ("chats.jsonl:17"), for messages about it.
    `metadata` is carried along untouched and never rendered.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    messages: tuple[ChatMessage, ...]
    metadata: dict[str, Any] = Field(default_factory=dict)
    source: str = ""


def message_order_problem(roles: list[str], *, for_completion: bool) -> str | None:
    """What is wrong with the order of roles, in words, or None.

    Right is: an optional first system or developer message, then user and assistant in turn,
    starting with user. A prompt for completion ends with user, an example with assistant.
    """
    turns = roles[1:] if roles and roles[0] in ("system", "developer") else roles
    if not turns:
        return "there is no user message"
    for index, role in enumerate(turns):
        expected = "user" if index % 2 == 0 else "assistant"
        if role != expected:
            position = index + 1 + len(roles) - len(turns)
            return f"message {position} has role {role!r} where {expected!r} belongs"
    last = "user" if for_completion else "assistant"
    if turns[-1] != last:
        return f"the last message has role {turns[-1]!r}, it must be {last!r}"
    return None
