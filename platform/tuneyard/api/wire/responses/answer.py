"""The answer of /v1/responses: the Response object, its output items and its usage."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tuneyard.api.wire.base import WireModel
from tuneyard.api.wire.chat_answer import ContentLogprob

ItemStatus = Literal["in_progress", "completed", "incomplete"]
ResponseStatus = Literal["in_progress", "completed", "incomplete", "failed", "cancelled"]


class OutputText(WireModel):
    """Text of the answer."""

    type: Literal["output_text"] = "output_text"
    text: str = ""
    annotations: list[dict[str, Any]] = Field(default_factory=list)
    """Always empty: annotations come from built-in tools."""
    logprobs: list[ContentLogprob] = Field(default_factory=list)


class OutputMessage(WireModel):
    """A message of the assistant."""

    type: Literal["message"] = "message"
    id: str
    role: Literal["assistant"] = "assistant"
    status: ItemStatus = "in_progress"
    content: list[OutputText] = Field(default_factory=list)


class SummaryText(WireModel):
    """The reasoning, if the request asked for a summary."""

    type: Literal["summary_text"] = "summary_text"
    text: str = ""


class ReasoningText(WireModel):
    """The reasoning, if the request did not ask for a summary."""

    type: Literal["reasoning_text"] = "reasoning_text"
    text: str = ""


class OutputReasoning(WireModel):
    """The model's reasoning: harmony's analysis and commentary."""

    type: Literal["reasoning"] = "reasoning"
    id: str
    status: ItemStatus = "in_progress"
    summary: list[SummaryText] = Field(default_factory=list)
    content: list[ReasoningText] = Field(default_factory=list)
    encrypted_content: str | None = None
    """Always null: reasoning is answered as text."""


class OutputCall(WireModel):
    """A call of a function. `arguments` is a JSON object as text."""

    type: Literal["function_call"] = "function_call"
    id: str
    call_id: str
    name: str
    arguments: str = ""
    status: ItemStatus = "in_progress"


OutputItem = OutputReasoning | OutputMessage | OutputCall


class InputTokensDetails(WireModel):
    """Cached tokens are not counted by the engines here, so both counts are 0."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputTokensDetails(WireModel):
    """How many of the output tokens were reasoning."""

    reasoning_tokens: int


class ResponseUsage(WireModel):
    """The engine's exact token counts. `output_tokens` includes stop tokens."""

    input_tokens: int
    input_tokens_details: InputTokensDetails = Field(default_factory=InputTokensDetails)
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class IncompleteDetails(WireModel):
    """Why an answer is incomplete."""

    reason: Literal["max_output_tokens"]


class ResponseError(WireModel):
    """Why an answer failed."""

    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str


class Response(WireModel):
    """An answer. It repeats the request's settings, as OpenAI's does."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    """Unix time in seconds."""
    completed_at: int | None = None
    status: ResponseStatus = "in_progress"
    background: bool = False
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    model: str
    output: list[OutputItem] = Field(default_factory=list)
    parallel_tool_calls: bool = True
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None
    reasoning: dict[str, Any] = Field(default_factory=dict)
    safety_identifier: str | None = None
    service_tier: Literal["default"] = "default"
    store: bool = False
    temperature: float = 1.0
    text: dict[str, Any] = Field(default_factory=dict)
    tool_choice: Any = "auto"
    tools: list[dict[str, Any]] = Field(default_factory=list)
    top_logprobs: int = 0
    top_p: float = 1.0
    truncation: Literal["disabled"] = "disabled"
    usage: ResponseUsage | None = None
    user: str | None = None
    harmony_malformed: bool = False
    """True when the model's output violated the harmony format and the answer was recovered from it."""


class DeletedResponse(WireModel):
    """The answer to the deletion of a stored response."""

    id: str
    object: Literal["response.deleted"] = "response.deleted"
    deleted: Literal[True] = True


class ItemList(WireModel):
    """A page of a stored response's input items."""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool
