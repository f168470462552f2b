"""Answers of POST /v1/chat/completions, whole and streamed, and of /v1/chat/completions/render."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tuneyard.api.wire.base import WireModel
from tuneyard.api.wire.usage import FinishReason, Usage


def _is_none(value: Any) -> bool:
    return value is None


class RenderedPrompt(WireModel):
    """The token ids that a chat completion would give the model, and their text with special tokens spelled out."""

    object: Literal["chat.completion.prompt"] = "chat.completion.prompt"
    model: str
    prompt_token_ids: list[int]
    text: str
    codec_fingerprint: str


class CalledFunction(WireModel):
    """A called function. In a stream, `name` comes in the first delta and `arguments` in pieces."""

    name: str | None = Field(default=None, exclude_if=_is_none)
    arguments: str = ""


class ToolCallMessage(WireModel):
    """One tool call of a whole answer."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class ToolCallDelta(WireModel):
    """A piece of a streamed tool call; `id` and `type` come in its first piece only."""

    index: int = 0
    id: str | None = Field(default=None, exclude_if=_is_none)
    type: Literal["function"] | None = Field(default=None, exclude_if=_is_none)
    function: CalledFunction


class TopLogprob(WireModel):
    """A token and its log probability in nats."""

    token: str
    bytes: list[int]
    logprob: float


class ContentLogprob(TopLogprob):
    """A generated token of `content`. Log probabilities are those of the model's own distribution."""

    top_logprobs: list[TopLogprob] = Field(default_factory=list)


class Logprobs(WireModel):
    """Log probabilities of the answer's content, one entry per token."""

    content: list[ContentLogprob]


class ResponseMessage(WireModel):
    """The assistant's message."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallMessage] | None = None


class Choice(WireModel):
    """One answer to the request."""

    index: int = 0
    message: ResponseMessage
    finish_reason: FinishReason
    logprobs: Logprobs | None = None
    harmony_malformed: bool = False
    """True when the model's output violated the harmony format and the answer was recovered from it."""


class ChatCompletion(WireModel):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    usage: Usage


class Delta(WireModel):
    """What a chunk adds to the assistant's message. Fields to which it adds nothing are left out."""

    role: Literal["assistant"] | None = Field(default=None, exclude_if=_is_none)
    content: str | None = Field(default=None, exclude_if=_is_none)
    reasoning_content: str | None = Field(default=None, exclude_if=_is_none)
    tool_calls: list[ToolCallDelta] | None = Field(default=None, exclude_if=_is_none)


class ChunkChoice(WireModel):
    """What a chunk adds to one answer."""

    index: int = 0
    delta: Delta
    finish_reason: FinishReason | None = None
    logprobs: Logprobs | None = None
    harmony_malformed: bool = Field(default=False, exclude_if=lambda value: not value)
    """True, with the finish reason, when the model's output violated the harmony format; left out otherwise."""


class ChatCompletionChunk(WireModel):
    """One event of a streamed answer."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
