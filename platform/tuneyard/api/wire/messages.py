"""Messages of a chat as a request holds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Tag, field_validator, model_validator

from tuneyard.api.wire.base import Items, RequestModel
from tuneyard.chats.messages import ChatMessage, FunctionCall, Role, ToolCall
from tuneyard.chats.rules.call_pairing import find_pairing_problem
from tuneyard.chats.rules.validation import find_field_problems
from tuneyard.core.errors import RequestError


class ContentPart(RequestModel):
    """A part of a message's content: `text`, or the `refusal` of an earlier answer, which is rendered as text.

    The Agents SDK for JavaScript repeats the other fields of an answer in its part: they are taken, and of them only
    the reasoning counts, where the message itself has none.
    """

    type: Literal["text", "refusal"]
    text: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    prompt_cache_breakpoint: dict[str, Any] | None = None
    """A label: how a prompt's beginning is cached changes no answer."""
    role: Role | None = None
    annotations: list[Any] | None = None
    tool_calls: list[Any] | None = None
    audio: Any = None
    function_call: Any = None
    parsed: Any = None

    @model_validator(mode="after")
    def _has_its_text(self) -> Self:
        if (self.text if self.type == "text" else self.refusal) is None:
            raise ValueError(f"must have a field {self.type!r}")
        return self

    def rendered_text(self) -> str:
        """What the part adds to the message."""
        return (self.text if self.type == "text" else self.refusal) or ""


def _tag_of_content(value: Any) -> str:
    """The tag of a content's shape; no identifier, so that `request_error` leaves it out of the parameter's path."""
    return "array-shape" if isinstance(value, list) else "text-shape"


Content = Annotated[
    Annotated[str, Tag("text-shape")] | Annotated[list[ContentPart], Tag("array-shape")], Discriminator(_tag_of_content)
]
"""Text, or a list of parts."""


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

    What OpenAI's SDKs add to an answer that is sent back is taken: `refusal` as text, `annotations` and `parsed` as
    labels, and `audio` and `function_call` if they are empty. `name` is a label.
    """

    role: Role
    content: Content | None = None
    reasoning_content: str | None = None
    """Not OpenAI's: DeepSeek, vLLM and SGLang established it for reasoning beside `content`."""
    reasoning: str | None = None
    """Another name of reasoning_content, which counts if both are there."""
    tool_calls: Items[RequestToolCall] = ()
    tool_call_id: str | None = None
    name: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    parsed: Any = None
    """Added by OpenAI's SDKs to a structured answer; ignored, because it repeats `content`."""
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
            reasoning_content=self._reasoning(),
            tool_calls=tuple(call.to_tool_call() for call in self.tool_calls),
            tool_call_id=self.tool_call_id,
        )

    def _text(self) -> str:
        """The content as text; the refusal if there is no content."""
        content = self.content or self.refusal or ""
        return content if isinstance(content, str) else "".join(part.rendered_text() for part in content)

    def _reasoning(self) -> str | None:
        """The message's reasoning, or else that of its parts."""
        parts = self.content if isinstance(self.content, list) else ()
        of_parts = "".join(part.reasoning_content or part.reasoning or "" for part in parts)
        return self.reasoning_content or self.reasoning or of_parts or None


def check_messages(messages: Sequence[RequestMessage]) -> None:
    """Raises RequestError for a tool call without its result, a result without its call, and a field that the
    message's role does not have. The order of roles is free otherwise.
    """
    chat = [message.to_chat_message() for message in messages]
    fault = next(find_field_problems(chat), None) or find_pairing_problem(chat)
    if fault is not None:
        param = f"messages.{fault.position}" + (f".{fault.field}" if fault.field else "")
        raise RequestError(f"messages.{fault.position} {fault.text}.", param=param)
