"""Chat messages, tools and training examples, with OpenAI's field names and strict types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from tuneyard.core.strict_model import FrozenModel

Role = Literal["system", "developer", "user", "assistant", "tool"]


class ToolFunction(FrozenModel):
    """The declaration of a function. `parameters` is the JSON schema of its arguments; None accepts any object."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str = ""
    parameters: dict[str, Any] | None = None


class ChatTool(FrozenModel):
    """A function that the model may call."""

    type: Literal["function"] = "function"
    function: ToolFunction


class FunctionCall(FrozenModel):
    """Name and arguments of a function call. `arguments` is a JSON object as text."""

    name: str
    arguments: str


class ToolCall(FrozenModel):
    """A call of a tool by the assistant."""

    id: str = ""
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(FrozenModel):
    """One message of a chat.

    `reasoning_content` is the assistant's reasoning, harmony's analysis channel. Messages with role `tool` answer the
    assistant's `tool_calls`; their `tool_call_id` is the call's id. `weight` 0 excludes an assistant message from the
    training loss; None and 1 include it.
    """

    role: Role
    content: str = ""
    reasoning_content: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    weight: Literal[0, 1] | None = None


class ChatExample(FrozenModel):
    """A conversation for training or evaluation; the last message is the assistant's.

    `rejected` makes it a preference pair: another last message, to which the one in `messages` is preferred. Assistant
    messages before the last have weight 0 then. `source` says where it was read, for example "chats.jsonl:17"; problems
    and training rows name it. `metadata` is kept and never rendered.
    """

    messages: tuple[ChatMessage, ...]
    tools: tuple[ChatTool, ...] = ()
    rejected: ChatMessage | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    source: str = ""

    @property
    def answers(self) -> tuple[ChatMessage, ...]:
        """The last message, and of a preference pair the rejected one after it."""
        return (self.messages[-1],) if self.rejected is None else (self.messages[-1], self.rejected)

    def halves(self) -> tuple[ChatExample, ChatExample]:
        """The chats of a preference pair: with the preferred and with the rejected answer, which alone is trained."""
        assert self.rejected is not None
        rejected = (*self.messages[:-1], self.rejected)
        return (
            self.model_copy(update={"rejected": None}),
            self.model_copy(update={"rejected": None, "messages": rejected}),
        )

    @property
    def last_prompt(self) -> tuple[ChatMessage, ...]:
        """The messages before the last assistant message."""
        return self.messages[: self._last_answer_index]

    @property
    def last_answer(self) -> ChatMessage:
        """The last assistant message."""
        return self.messages[self._last_answer_index]

    @property
    def _last_answer_index(self) -> int:
        return max(i for i, message in enumerate(self.messages) if message.role == "assistant")


def request_fields(messages: Sequence[ChatMessage], tools: Sequence[ChatTool]) -> dict[str, Any]:
    """The fields `messages` and `tools` of a chat completion request. `weight`, which is for training, is left out."""
    message_fields = [message.model_dump(exclude_defaults=True) | {"content": message.content} for message in messages]
    for fields in message_fields:
        fields.pop("weight", None)
    tool_fields = [tool.model_dump(exclude_none=True) for tool in tools]
    return {"messages": message_fields, **({"tools": tool_fields} if tool_fields else {})}
