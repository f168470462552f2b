"""Requests of POST /v1/chat/completions, and of /v1/chat/completions/render, which takes the same body.

Source: OpenAI API reference, chat completions.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from tuneyard.api.wire.base import WireModel
from tuneyard.api.wire.messages import RequestMessage, check_messages
from tuneyard.api.wire.sampling import SamplingRequest
from tuneyard.chats.messages import ChatTool
from tuneyard.core.errors import RequestError
from tuneyard.harmony.settings import ReasoningEffort


class FunctionName(WireModel):
    """Names one declared function."""

    name: str


class NamedToolChoice(WireModel):
    """Requires a call of one function."""

    type: Literal["function"]
    function: FunctionName


class JsonSchema(WireModel):
    """A schema that the answer must satisfy. It is always enforced, whatever `strict` says."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class TextFormat(WireModel):
    """Free text, the default."""

    type: Literal["text"]


class JsonObjectFormat(WireModel):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchemaFormat(WireModel):
    """JSON that satisfies a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


class ChatCompletionRequest(SamplingRequest):
    """Body of POST /v1/chat/completions."""

    messages: list[RequestMessage] = Field(min_length=1)
    tools: tuple[ChatTool, ...] = Field(default=(), max_length=128)
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice = "auto"
    parallel_tool_calls: bool = True
    """Changes nothing: a harmony message calls one function, so calls are never parallel."""
    response_format: ResponseFormat | None = None
    max_completion_tokens: int | None = Field(default=None, ge=1)
    """The most tokens to generate, reasoning included."""
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
        check_messages(self.messages)

    def _check_tools(self) -> None:
        names = [tool.function.name for tool in self.tools]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise RequestError(f"The function {repeated[0]!r} is declared twice.", param="tools")
        if not names and self.tool_choice not in ("none", "auto"):
            raise RequestError("tool_choice requires a call, but the request declares no tools.", param="tool_choice")
        if isinstance(self.tool_choice, NamedToolChoice) and self.tool_choice.function.name not in names:
            raise RequestError(
                f"tool_choice names {self.tool_choice.function.name!r}; declared: {', '.join(names)}.",
                param="tool_choice",
            )

    @property
    def token_limit(self) -> int | None:
        """The most tokens to generate, under either name; None for no limit of the request."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def answer_schema(self) -> dict[str, Any] | None:
        """The JSON schema that the final message must satisfy; None for free text."""
        match self.response_format:
            case JsonObjectFormat():
                return {"type": "object"}
            case JsonSchemaFormat(json_schema=json_schema):
                return json_schema.schema_
            case _:
                return None

    def callable_tools(self) -> tuple[ChatTool, ...]:
        """Returns the tools that tool_choice allows the model to call."""
        if isinstance(self.tool_choice, NamedToolChoice):
            name = self.tool_choice.function.name
            return tuple(tool for tool in self.tools if tool.function.name == name)
        return () if self.tool_choice == "none" else self.tools


class RenderRequest(ChatCompletionRequest):
    """Body of POST /v1/chat/completions/render: a chat completion's body, rendered to a prompt and not answered."""

    today: datetime.date | None = None
    """The date that `conversation_date: today` renders; null takes the server's clock."""
