"""Wire types of the OpenAI API: what is served here, strictly; the rest is refused by name, never ignored.

Source: OpenAI API reference, chat completions. `reasoning_content` is the field that DeepSeek, vLLM
and SGLang established for reasoning beside `content`.
"""

from __future__ import annotations

import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tuneyard.chat import ChatMessage, ChatTool, Role, ToolCall
from tuneyard.errors import RequestError
from tuneyard.harmony import ReasoningEffort

UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "frequency_penalty": (0,),
    "function_call": (),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "parallel_tool_calls": (True,),
    "prediction": (),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "seed": (),
    "service_tier": ("auto", "default"),
    "stop": ([],),
    "store": (False,),
    "tool_choice": ("none", "auto"),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
    "web_search_options": (),
}
"""OpenAI's parameters that are not served, each with the values that ask for nothing and so may pass."""


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TextPart(_Wire):
    type: Literal["text"]
    text: str


class RequestMessage(_Wire):
    """One message of a request; `content` is text or a list of text parts."""

    role: Role
    content: str | list[TextPart] | None = None
    reasoning_content: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    def to_chat_message(self) -> ChatMessage:
        """The message as the codec takes it."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return ChatMessage(
            role=self.role,
            content=text,
            reasoning_content=self.reasoning_content,
            tool_calls=self.tool_calls,
            tool_call_id=self.tool_call_id,
        )


class StreamOptions(_Wire):
    include_usage: bool = False


class ChatCompletionRequest(_Wire):
    """POST /v1/chat/completions."""

    model: str
    messages: list[RequestMessage] = Field(min_length=1)
    tools: tuple[ChatTool, ...] = ()
    """Rendered into the prompt; completions refuse them until calls can be answered."""
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_completion_tokens: int | None = Field(default=None, ge=1)
    max_tokens: int | None = Field(default=None, ge=1)
    """OpenAI's older name of max_completion_tokens."""
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    """0 is off. Not OpenAI's, but vLLM's and TensorRT-LLM's."""
    reasoning_effort: ReasoningEffort | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None

    @classmethod
    def parse(cls, body: Any) -> Self:
        """The request in a JSON body. Raises RequestError that names the parameter at fault."""
        if not isinstance(body, dict):
            raise RequestError(f"The body must be a JSON object, found {type(body).__name__}.")
        kept = {name: value for name, value in body.items() if value is not None}
        for name, harmless in UNSUPPORTED.items():
            if name in kept:
                value = kept.pop(name)
                if not any((value == h and type(value) is type(h)) or _equal_number(value, h) for h in harmless):
                    raise RequestError(f"{name!r} is not supported by this server.", param=name, code="unsupported")
        try:
            request = cls.model_validate(kept)
        except ValidationError as e:
            raise _request_error(e) from e
        if request.max_tokens is not None and request.max_completion_tokens is not None:
            raise RequestError("Give max_completion_tokens or max_tokens, not both.", param="max_tokens")
        if request.stream_options is not None and not request.stream:
            raise RequestError("stream_options is only allowed with stream=true.", param="stream_options")
        if request.messages[-1].role == "assistant":
            raise RequestError("The last message must not be the assistant's.", param="messages")
        return request

    @property
    def token_limit(self) -> int | None:
        """The asked-for limit, under either name."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens


class RenderRequest(ChatCompletionRequest):
    """POST /v1/chat/completions/render: the body of a completion, to be rendered and not answered."""

    today: datetime.date | None = None
    """What `conversation_date: today` means; null asks the clock."""


class RenderedPrompt(_Wire):
    """The prompt's ids exactly as a completion would feed them, and their text, special tokens spelled out."""

    object: Literal["chat.completion.prompt"] = "chat.completion.prompt"
    model: str
    prompt_token_ids: list[int]
    text: str
    codec_fingerprint: str


class CompletionTokensDetails(_Wire):
    reasoning_tokens: int


class Usage(_Wire):
    """Exact counts of the engine's tokens; stop tokens are among completion_tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    completion_tokens_details: CompletionTokensDetails


FinishReason = Literal["stop", "length"]


class ResponseMessage(_Wire):
    role: Literal["assistant"] = "assistant"
    content: str
    reasoning_content: str | None = None


class Choice(_Wire):
    index: int = 0
    message: ResponseMessage
    finish_reason: FinishReason
    logprobs: None = None
    harmony_malformed: bool = False
    """True when the model left harmony's format and the answer was recovered."""


class ChatCompletion(_Wire):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    usage: Usage


class Delta(_Wire):
    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None


class ChunkChoice(_Wire):
    index: int = 0
    delta: Delta
    finish_reason: FinishReason | None = None


class ChatCompletionChunk(_Wire):
    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: Usage | None = None


class ModelCard(_Wire):
    """An entry of /v1/models; `max_model_len` is the context in tokens (vLLM's field name)."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "tuneyard"
    max_model_len: int


class ModelList(_Wire):
    object: Literal["list"] = "list"
    data: list[ModelCard]


def error_body(error: RequestError) -> dict[str, Any]:
    """OpenAI's error object."""
    return {"error": {"message": error.message, "type": error.error_type, "param": error.param, "code": error.code}}


def _equal_number(value: Any, harmless: Any) -> bool:
    """0 and 0.0 ask for the same nothing; False does not."""
    numbers = isinstance(value, int | float) and isinstance(harmless, int | float)
    return numbers and not isinstance(value, bool) and not isinstance(harmless, bool) and value == harmless


def _request_error(error: ValidationError) -> RequestError:
    """The first problem, in OpenAI's manner: the parameter dotted, `messages.0.role`."""
    first = error.errors()[0]
    # Pydantic adds the name of the union's branch ("str", "list[TextPart]"), which means nothing to a client.
    path = [str(p) for p in first["loc"] if isinstance(p, int) or (p.isidentifier() and p != "str")]
    param = ".".join(path)
    if first["type"] == "extra_forbidden":
        return RequestError(f"Unknown parameter: {param!r}.", param=param, code="unknown_parameter")
    if first["type"] == "missing":
        return RequestError(f"Missing required parameter: {param!r}.", param=param, code="missing_required_parameter")
    return RequestError(f"Invalid value for {param!r}: {first['msg']}.", param=param, code="invalid_value")
