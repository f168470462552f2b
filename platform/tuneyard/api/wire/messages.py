"""Messages of a chat as a request holds them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Literal

from tuneyard.api.wire.base import WireModel
from tuneyard.chats.messages import ChatMessage, Role, ToolCall
from tuneyard.chats.validation import find_call_problems, find_field_problems
from tuneyard.core.errors import RequestError


class TextPart(WireModel):
    """One part of a message's content. Only text is supported."""

    type: Literal["text"]
    text: str


class RequestMessage(WireModel):
    """One message of a request; `content` is text or a list of text parts.

    `reasoning_content` is not OpenAI's: DeepSeek, vLLM and SGLang established it for reasoning beside `content`.
    """

    role: Role
    content: str | list[TextPart] | None = None
    reasoning_content: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    def to_chat_message(self) -> ChatMessage:
        """Returns the message as HarmonyCodec takes it."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return ChatMessage(
            role=self.role,
            content=text,
            reasoning_content=self.reasoning_content,
            tool_calls=self.tool_calls,
            tool_call_id=self.tool_call_id,
        )


def check_messages(messages: Sequence[RequestMessage]) -> None:
    """Raises RequestError for a tool call without its result, a result without its call, and a field that the
    message's role does not have.
    """
    chat = [message.to_chat_message() for message in messages]
    for fault in chain(find_field_problems(chat), find_call_problems(chat)):
        param = f"messages.{fault.position}" + (f".{fault.field}" if fault.field else "")
        raise RequestError(f"messages.{fault.position} {fault.text}.", param=param)
