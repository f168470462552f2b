"""Events of a streamed response. OpenAI gives every event a name, a `type` and a `sequence_number`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SerializeAsAny

from tuneyard.api.wire.base import WireModel
from tuneyard.api.wire.chat_answer import ContentLogprob
from tuneyard.api.wire.responses.answer import OutputItem, OutputText, ReasoningText, Response, SummaryText


class ResponseEvent(WireModel):
    """What every event has. `sequence_number` counts the events of a stream from 0."""

    type: str
    sequence_number: int = 0


class LifecycleEvent(ResponseEvent):
    """The whole response: at its beginning without output, at its end complete."""

    type: Literal[
        "response.created",
        "response.in_progress",
        "response.completed",
        "response.incomplete",
        "response.failed",
    ]
    response: Response


class ItemEvent(ResponseEvent):
    """An item has begun, or is complete."""

    type: Literal["response.output_item.added", "response.output_item.done"]
    output_index: int
    item: SerializeAsAny[OutputItem]


class ContentPartEvent(ResponseEvent):
    """A part of a message or of reasoning has begun, or is complete."""

    type: Literal["response.content_part.added", "response.content_part.done"]
    item_id: str
    output_index: int
    content_index: int = 0
    part: OutputText | ReasoningText


class SummaryPartEvent(ResponseEvent):
    """A part of a reasoning summary has begun, or is complete."""

    type: Literal["response.reasoning_summary_part.added", "response.reasoning_summary_part.done"]
    item_id: str
    output_index: int
    summary_index: int = 0
    part: SummaryText


class DeltaEvent(ResponseEvent):
    """More text of an item."""

    item_id: str
    output_index: int
    delta: str
    obfuscation: str | None = None
    """Random characters, on request; see StreamOptions.include_obfuscation."""


class TextDelta(DeltaEvent):
    """More text of the answer, with its tokens' log-probabilities."""

    type: Literal["response.output_text.delta"] = "response.output_text.delta"
    content_index: int = 0
    logprobs: list[ContentLogprob] = Field(default_factory=list)


class ReasoningDelta(DeltaEvent):
    """More reasoning, if the request did not ask for a summary."""

    type: Literal["response.reasoning_text.delta"] = "response.reasoning_text.delta"
    content_index: int = 0


class SummaryDelta(DeltaEvent):
    """More reasoning, if the request asked for a summary."""

    type: Literal["response.reasoning_summary_text.delta"] = "response.reasoning_summary_text.delta"
    summary_index: int = 0


class ArgumentsDelta(DeltaEvent):
    """More of a call's arguments."""

    type: Literal["response.function_call_arguments.delta"] = "response.function_call_arguments.delta"


class TextDone(ResponseEvent):
    """The complete text of a message."""

    type: Literal["response.output_text.done"] = "response.output_text.done"
    item_id: str
    output_index: int
    content_index: int = 0
    text: str
    logprobs: list[ContentLogprob] = Field(default_factory=list)


class ReasoningDone(ResponseEvent):
    """The complete reasoning of an item, if the request did not ask for a summary."""

    type: Literal["response.reasoning_text.done"] = "response.reasoning_text.done"
    item_id: str
    output_index: int
    content_index: int = 0
    text: str


class SummaryDone(ResponseEvent):
    """The complete reasoning of an item, if the request asked for a summary."""

    type: Literal["response.reasoning_summary_text.done"] = "response.reasoning_summary_text.done"
    item_id: str
    output_index: int
    summary_index: int = 0
    text: str


class ArgumentsDone(ResponseEvent):
    """The complete arguments of a call."""

    type: Literal["response.function_call_arguments.done"] = "response.function_call_arguments.done"
    item_id: str
    output_index: int
    name: str
    arguments: str
