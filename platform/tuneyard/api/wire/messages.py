"""Messages of a chat as a request holds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from tuneyard.api.wire.base import Items, RequestModel
from tuneyard.chats.call_pairing import find_pairing_problem
from tuneyard.chats.messages import ChatMessage, FunctionCall, Role, ToolCall
from tuneyard.chats.validation import find_field_problems
from tuneyard.core.errors import RequestError


class TextPart(RequestModel):
    """A part of a message's content that is text."""

    type: Literal["text"]
    text: str


class RefusalPart(RequestModel):
    """A part of an earlier answer that refused; rendered as text."""

    type: Literal["refusal"]
    refusal: str


ContentPart = Annotated[TextPart | RefusalPart, Field(discriminator="type")]


class RequestFunctionCall(RequestModel):
    """Name and arguments of an earlier call. `arguments` is a JSON object as text."""

    name: str
    arguments: str
    parsed_arguments: Any = None
    """Added by OpenAI's SDKs; ignored, because it repeats `arguments`."""


class RequestToolCall(RequestModel):
    """An earlier call of a tool. `index` is its number in a stream's deltas, which some clients keep."""

    id: str = ""
    type: Literal["function"] = "function"
    function: RequestFunctionCall
    index: int | None = None

    def to_tool_call(self) -> ToolCall:
        """Returns the call as HarmonyCodec takes it."""
        return ToolCall(id=self.id, function=FunctionCall(name=self.function.name, arguments=self.function.arguments))


class RequestMessage(RequestModel):
    """One message of a request; `content` is text or a list of parts.

    What OpenAI's SDKs add to an answer that is sent back is taken: `refusal` as text, `annotations` as a label, and
    `audio` and `function_call` if they are empty. `name` is a label.
    """

    role: Role
    content: str | list[ContentPart] | None = None
    reasoning_content: str | None = None
    """Not OpenAI's: DeepSeek, vLLM and SGLang established it for reasoning beside `content`."""
    reasoning: str | None = None
    """Another name of reasoning_content, which counts if both are there."""
    tool_calls: Items[RequestToolCall] = ()
    tool_call_id: str | None = None
    name: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None

    @field_validator("audio", "function_call", mode="before")
    @classmethod
    def _empty_as_none(cls, value: Any) -> Any:
        return None if value == {} else value

    def to_chat_message(self) -> ChatMessage:
        """Returns the message as HarmonyCodec takes it."""
        return ChatMessage(
            role=self.role,
            content=self._text(),
            reasoning_content=self.reasoning_content or self.reasoning,
            tool_calls=tuple(call.to_tool_call() for call in self.tool_calls),
            tool_call_id=self.tool_call_id,
        )

    def _text(self) -> str:
        """The content as text; the refusal if there is no content."""
        content = self.content or self.refusal or ""
        if isinstance(content, str):
            return content
        return "".join(part.text if isinstance(part, TextPart) else part.refusal for part in content)


def check_messages(messages: Sequence[RequestMessage]) -> None:
    """Raises RequestError for a tool call without its result, a result without its call, and a field that the
    message's role does not have. The order of roles is free otherwise.
    """
    chat = [message.to_chat_message() for message in messages]
    fault = next(find_field_problems(chat), None) or find_pairing_problem(chat)
    if fault is not None:
        param = f"messages.{fault.position}" + (f".{fault.field}" if fault.field else "")
        raise RequestError(f"messages.{fault.position} {fault.text}.", param=param)
