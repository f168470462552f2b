"""Items of a request's `input`: messages, function calls and their results, reasoning, references.

Output items of an answer are taken back as they came. What only labels an item (`id`, `status`, `phase`,
`annotations`, `logprobs`) is taken and changes nothing. Source: OpenAI API reference, responses.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from tuneyard.api.wire.base import RequestModel
from tuneyard.api.wire.responses.union_tags import require_objects, tag_of_shape, tag_of_type, unsupported_type

ItemStatus = Literal["in_progress", "completed", "incomplete"]
Phase = Literal["commentary", "final_answer"]


class InputText(RequestModel):
    """Text of a user, a developer, or a function's result."""

    type: Literal["input_text"]
    text: str
    prompt_cache_breakpoint: dict[str, Any] | None = None


class OutputTextPart(RequestModel):
    """Text of an earlier answer."""

    type: Literal["output_text"]
    text: str
    annotations: list[dict[str, Any]] = Field(default_factory=list)
    logprobs: list[dict[str, Any]] = Field(default_factory=list)
    parsed: Any = Field(default=None, exclude=True)
    """Added by OpenAI's SDKs to a structured answer; ignored, because it repeats `text`."""


class RefusalPart(RequestModel):
    """A refusal of an earlier answer; it is part of the answer's text."""

    type: Literal["refusal"]
    refusal: str

    @property
    def text(self) -> str:
        return self.refusal


ContentPart = Annotated[
    Annotated[InputText, Tag("input_text-type")]
    | Annotated[OutputTextPart, Tag("output_text-type")]
    | Annotated[RefusalPart, Tag("refusal-type")],
    Discriminator(tag_of_type),
]
CONTENT_TYPES = ("input_text", "output_text", "refusal")

Content = Annotated[
    Annotated[str, Tag("text-shape")] | Annotated[list[ContentPart], Tag("array-shape")], Discriminator(tag_of_shape)
]


class DirectCaller(RequestModel):
    """Who made a call: the model."""

    type: Literal["direct"]


class MessageItem(RequestModel):
    """A message; also an output message of an earlier answer."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    id: str | None = None
    status: ItemStatus | None = None
    phase: Phase | None = None


class FunctionCallItem(RequestModel):
    """A call that the model made; `arguments` is a JSON object as text."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: ItemStatus | None = None
    caller: DirectCaller | None = None
    async_: Literal[False] | None = Field(default=None, alias="async", exclude=True)
    parsed_arguments: Any = Field(default=None, exclude=True)
    """Added by OpenAI's SDKs; ignored, because it repeats `arguments`."""


class FunctionCallOutputItem(RequestModel):
    """The result of the call with the same `call_id`."""

    type: Literal["function_call_output"]
    call_id: str
    output: Content
    id: str | None = None
    status: ItemStatus | None = None
    name: str | None = None
    caller: DirectCaller | None = None


class ReasoningSummaryPart(RequestModel):
    """A part of a reasoning item's summary."""

    type: Literal["summary_text"]
    text: str


class ReasoningTextPart(RequestModel):
    """A part of a reasoning item's text."""

    type: Literal["reasoning_text"]
    text: str


class ReasoningItem(RequestModel):
    """Reasoning of an earlier answer: `content`, or else `summary`. `encrypted_content` cannot be read here."""

    type: Literal["reasoning"]
    summary: list[ReasoningSummaryPart] = Field(default_factory=list)
    content: list[ReasoningTextPart] = Field(default_factory=list)
    encrypted_content: str | None = None
    """Accepted and ignored: only OpenAI can decrypt it, and answers of this server have none."""
    id: str | None = None
    status: ItemStatus | None = None

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.content) or "\n\n".join(part.text for part in self.summary)


class ItemReference(RequestModel):
    """Stands for a stored item."""

    type: Literal["item_reference"]
    id: str


InputItem = Annotated[
    Annotated[MessageItem, Tag("message-type")]
    | Annotated[FunctionCallItem, Tag("function_call-type")]
    | Annotated[FunctionCallOutputItem, Tag("function_call_output-type")]
    | Annotated[ReasoningItem, Tag("reasoning-type")]
    | Annotated[ItemReference, Tag("item_reference-type")],
    Discriminator(tag_of_type),
]
ITEM_TYPES = ("message", "function_call", "function_call_output", "reasoning", "item_reference")


def check_item_types(value: Any) -> None:
    """Raises RequestError that names an item, or a part of one, whose type is not supported."""
    for index, item in enumerate(require_objects(value, "input")):
        kind = item.get("type") or "message"
        if kind not in ITEM_TYPES:
            raise unsupported_type(kind, f"input.{index}", ITEM_TYPES)
        for name in ("content", "output") if kind != "reasoning" else ():
            if isinstance(item.get(name), list):
                _check_part_types(item[name], f"input.{index}.{name}")


def _check_part_types(value: list[Any], param: str) -> None:
    for index, part in enumerate(require_objects(value, param)):
        if part.get("type") not in CONTENT_TYPES:
            raise unsupported_type(part.get("type"), f"{param}.{index}", CONTENT_TYPES)


def text_of(content: str | list[InputText | OutputTextPart | RefusalPart]) -> str:
    """The text of a message's or a result's content."""
    return content if isinstance(content, str) else "".join(part.text for part in content)
