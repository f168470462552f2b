"""Wire types of the OpenAI API: what is served here, strictly; the rest is refused by name, never ignored.

Source: OpenAI API reference, chat completions. `reasoning_content` is the field that DeepSeek, vLLM
and SGLang established for reasoning beside `content`.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator

from tuneyard.chats.messages import ChatMessage, ChatTool, Role, ToolCall, call_faults, field_faults
from tuneyard.core.errors import RequestError
from tuneyard.core.strict_model import StrictModel
from tuneyard.harmony.codec import ReasoningEffort

UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "function_call": (),
    "functions": ([],),
    "modalities": (["text"],),
    "prediction": (),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "verbosity": ("medium",),
    "web_search_options": (),
}
"""OpenAI's parameters that are not served, each with the values that ask for nothing and so may pass."""


MAX_CHOICES = 16
DEFAULT_COMPLETION_TOKENS = 16


class Wire(StrictModel):
    """Strict, so that nothing is ignored."""


class TextPart(Wire):
    type: Literal["text"]
    text: str


class RequestMessage(Wire):
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


class StreamOptions(Wire):
    include_usage: bool = False


class FunctionName(Wire):
    name: str


class NamedToolChoice(Wire):
    type: Literal["function"]
    function: FunctionName


class JsonSchema(Wire):
    """`strict` changes nothing: a schema is always enforced."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class TextFormat(Wire):
    type: Literal["text"]


class JsonObjectFormat(Wire):
    type: Literal["json_object"]


class JsonSchemaFormat(Wire):
    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


class SamplingRequest(Wire):
    """What chat completions and completions have in common."""

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    """OpenAI's older name of max_completion_tokens."""
    n: int = Field(default=1, ge=1, le=MAX_CHOICES)
    stop: tuple[str, ...] = Field(default=(), max_length=4)
    """Ends the answer before the first of them; a single one may be given as a string."""
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    """0 is off. top_k, min_p and repetition_penalty are not OpenAI's, but vLLM's and TensorRT-LLM's."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    presence_penalty: float = Field(default=0.0, ge=-2, le=2)
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    repetition_penalty: float = Field(default=1.0, ge=0.01, le=10)
    logit_bias: dict[int, Annotated[float, Field(ge=-100, le=100)]] = Field(default_factory=dict)
    """Token id -> what is added to its logit."""
    user: str | None = None
    metadata: dict[str, str] | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("stop")
    @classmethod
    def _not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(value):
            raise ValueError("an empty stop string would end every answer at once")
        return value

    @classmethod
    def parse(cls, body: Any) -> Self:
        """The request in a JSON body. Raises RequestError that names the parameter at fault."""
        if not isinstance(body, dict):
            raise RequestError(f"The body must be a JSON object, found {type(body).__name__}.")
        kept = {name: value for name, value in body.items() if value is not None}
        for name, harmless in UNSUPPORTED.items():
            if name in kept and name not in cls.model_fields:
                value = kept.pop(name)
                if not any((value == h and type(value) is type(h)) or _equal_number(value, h) for h in harmless):
                    raise RequestError(f"{name!r} is not supported by this server.", param=name, code="unsupported")
        try:
            request = cls.model_validate(kept)
        except ValidationError as e:
            raise _request_error(e) from e
        request.check()
        return request

    def check(self) -> None:
        """What concerns more than one parameter. Raises RequestError."""
        if self.stream_options is not None and not self.stream:
            raise RequestError("stream_options is only allowed with stream=true.", param="stream_options")

    @property
    def token_limit(self) -> int | None:
        """The asked-for limit."""
        return self.max_tokens


class ChatCompletionRequest(SamplingRequest):
    """POST /v1/chat/completions."""

    messages: list[RequestMessage] = Field(min_length=1)
    tools: tuple[ChatTool, ...] = Field(default=(), max_length=128)
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice = "auto"
    parallel_tool_calls: bool = True
    """Harmony calls one function at a time, so false is always kept."""
    response_format: ResponseFormat | None = None
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=20)
    reasoning_effort: ReasoningEffort | None = None

    def check(self) -> None:
        super().check()
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise RequestError("Give max_completion_tokens or max_tokens, not both.", param="max_tokens")
        if self.top_logprobs and not self.logprobs:
            raise RequestError("top_logprobs is only allowed with logprobs=true.", param="top_logprobs")
        if self.messages[-1].role == "assistant":
            raise RequestError("The last message must not be the assistant's.", param="messages")
        self._check_tools()

    def _check_tools(self) -> None:
        names = [tool.function.name for tool in self.tools]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise RequestError(f"The function {twice[0]!r} is declared twice.", param="tools")
        if not names and self.tool_choice not in ("none", "auto"):
            raise RequestError("tool_choice asks for a call, and there are no tools.", param="tool_choice")
        if isinstance(self.tool_choice, NamedToolChoice) and self.tool_choice.function.name not in names:
            raise RequestError(
                f"tool_choice names {self.tool_choice.function.name!r}; declared: {', '.join(names)}.",
                param="tool_choice",
            )
        check_messages(self.messages)

    @property
    def token_limit(self) -> int | None:
        """The asked-for limit, under either name."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def schema_of_answer(self) -> dict[str, Any] | None:
        """JSON schema of the final message; None: free text."""
        match self.response_format:
            case JsonObjectFormat():
                return {"type": "object"}
            case JsonSchemaFormat(json_schema=asked):
                return asked.schema_
            case _:
                return None

    def callable_tools(self) -> tuple[ChatTool, ...]:
        """Those that tool_choice leaves."""
        if isinstance(self.tool_choice, NamedToolChoice):
            name = self.tool_choice.function.name
            return tuple(tool for tool in self.tools if tool.function.name == name)
        return () if self.tool_choice == "none" else self.tools


class CompletionRequest(SamplingRequest):
    """POST /v1/completions: text, or token ids, continued as they stand, without chat or harmony."""

    prompt: str | list[int] = Field(min_length=1)
    max_tokens: int | None = Field(default=DEFAULT_COMPLETION_TOKENS, ge=1)
    """OpenAI's default."""
    logprobs: int | None = Field(default=None, ge=0, le=5)
    echo: Literal[False] = False
    best_of: Literal[1] = 1
    suffix: None = None


class TokenizeRequest(Wire):
    """POST /tokenize: text, which never becomes a special token; or the messages of a chat, rendered."""

    model: str
    prompt: str | None = None
    messages: list[RequestMessage] | None = Field(default=None, min_length=1)
    tools: tuple[ChatTool, ...] = ()
    reasoning_effort: ReasoningEffort | None = None

    @classmethod
    def parse(cls, body: Any) -> Self:
        """Raises RequestError that names the parameter at fault."""
        try:
            request = cls.model_validate(body)
        except ValidationError as e:
            raise _request_error(e) from e
        if (request.prompt is None) == (request.messages is None):
            raise RequestError("Give prompt or messages.", param="prompt")
        if request.prompt is not None and (request.tools or request.reasoning_effort):
            raise RequestError("tools and reasoning_effort belong to messages, not to prompt.", param="prompt")
        check_messages(request.messages or ())
        return request


class DetokenizeRequest(Wire):
    """POST /detokenize."""

    model: str
    tokens: list[int]

    @classmethod
    def parse(cls, body: Any) -> Self:
        """Raises RequestError that names the parameter at fault."""
        try:
            return cls.model_validate(body)
        except ValidationError as e:
            raise _request_error(e) from e


def check_messages(messages: Sequence[RequestMessage]) -> None:
    """Raises RequestError for calls without results, results without calls, and fields that another role has."""
    found = [message.to_chat_message() for message in messages]
    for fault in chain(field_faults(found), call_faults(found)):
        param = f"messages.{fault.position}" + (f".{fault.field}" if fault.field else "")
        raise RequestError(f"messages.{fault.position} {fault.text}.", param=param)


class RenderRequest(ChatCompletionRequest):
    """POST /v1/chat/completions/render: the body of a completion, to be rendered and not answered."""

    today: datetime.date | None = None
    """What `conversation_date: today` means; null asks the clock."""


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
