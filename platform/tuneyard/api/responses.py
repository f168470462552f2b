"""What the OpenAI API answers, as it goes over the wire."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tuneyard.api.requests import Wire


class RenderedPrompt(Wire):
    """The prompt's ids exactly as a completion would feed them, and their text, special tokens spelled out."""

    object: Literal["chat.completion.prompt"] = "chat.completion.prompt"
    model: str
    prompt_token_ids: list[int]
    text: str
    codec_fingerprint: str


class CompletionTokensDetails(Wire):
    reasoning_tokens: int


class Usage(Wire):
    """Exact counts of the engine's tokens; stop tokens are among completion_tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    completion_tokens_details: CompletionTokensDetails


FinishReason = Literal["stop", "length", "tool_calls"]


class CalledFunction(Wire):
    """In a stream, `name` comes first and `arguments` in pieces."""

    name: str | None = None
    arguments: str = ""


class ToolCallMessage(Wire):
    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class ToolCallDelta(Wire):
    index: int = 0
    id: str | None = None
    type: Literal["function"] | None = None
    function: CalledFunction


class TopLogprob(Wire):
    token: str
    bytes: list[int]
    logprob: float


class ContentLogprob(TopLogprob):
    """A token of `content`, of the model's own distribution, nats."""

    top_logprobs: list[TopLogprob] = Field(default_factory=list)


class Logprobs(Wire):
    content: list[ContentLogprob]


class ResponseMessage(Wire):
    role: Literal["assistant"] = "assistant"
    content: str | None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallMessage] | None = None


class Choice(Wire):
    index: int = 0
    message: ResponseMessage
    finish_reason: FinishReason
    logprobs: Logprobs | None = None
    harmony_malformed: bool = False
    """True when the model left harmony's format and the answer was recovered."""


class ChatCompletion(Wire):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    usage: Usage


class Delta(Wire):
    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChunkChoice(Wire):
    index: int = 0
    delta: Delta
    finish_reason: FinishReason | None = None
    logprobs: Logprobs | None = None


class ChatCompletionChunk(Wire):
    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: Usage | None = None


class ModelCard(Wire):
    """An entry of /v1/models; `max_model_len` is the context in tokens (vLLM's field name)."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "tuneyard"
    max_model_len: int


class ModelList(Wire):
    object: Literal["list"] = "list"
    data: list[ModelCard]


class CompletionLogprobs(Wire):
    """In OpenAI's older form: lists, one item per token."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(Wire):
    index: int = 0
    text: str
    finish_reason: FinishReason | None = None
    logprobs: CompletionLogprobs | None = None


class Completion(Wire):
    """POST /v1/completions; in a stream, every piece has this form."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class Tokenized(Wire):
    tokens: list[int]
    count: int
    max_model_len: int


class Detokenized(Wire):
    prompt: str
