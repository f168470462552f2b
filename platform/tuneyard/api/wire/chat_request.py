"""Requests of POST /v1/chat/completions, and of /v1/chat/completions/render, which takes the same body.

Source: OpenAI API reference, chat completions.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from tuneyard.api.wire.base import Items, RequestModel
from tuneyard.api.wire.effort import RequestedEffort
from tuneyard.api.wire.messages import RequestMessage, check_messages
from tuneyard.api.wire.sampling import SamplingRequest
from tuneyard.api.wire.tools import RequestTool, ToolChoice, callable_tools, check_tools, requires_call
from tuneyard.core.errors import RequestError


class JsonSchema(RequestModel):
    """A schema that the answer must satisfy. It is always enforced, whatever `strict` says."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class TextFormat(RequestModel):
    """Free text, the default."""

    type: Literal["text"]


class JsonObjectFormat(RequestModel):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchemaFormat(RequestModel):
    """JSON that satisfies a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


class ChatCompletionRequest(SamplingRequest):
    """Body of POST /v1/chat/completions."""

    messages: list[RequestMessage] = Field(min_length=1)
    tools: Items[RequestTool] = Field(default=(), max_length=128)
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True
    """Changes nothing: a harmony message calls one function, so calls are never parallel."""
    response_format: ResponseFormat | None = None
    max_completion_tokens: int | None = Field(default=None, ge=1)
    """The most tokens to generate, reasoning included."""
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=20)
    reasoning_effort: RequestedEffort | None = None
    """none and minimal are taken as low, xhigh as high: the prompt format has low, medium and high."""

    def check(self) -> None:
        super().check()
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise RequestError("Give max_completion_tokens or max_tokens, not both.", param="max_tokens")
        if self.top_logprobs and not self.logprobs:
            raise RequestError("top_logprobs is only allowed with logprobs=true.", param="top_logprobs")
        check_tools(self.tools, self.tool_choice)
        check_messages(self.messages)

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

    @property
    def callable_tools(self) -> tuple[RequestTool, ...]:
        """The tools that tool_choice allows the model to call."""
        return callable_tools(self.tools, self.tool_choice)

    @property
    def requires_call(self) -> bool:
        """Whether tool_choice requires a call."""
        return requires_call(self.tool_choice)


class RenderRequest(ChatCompletionRequest):
    """Body of POST /v1/chat/completions/render: a chat completion's body, rendered to a prompt and not answered."""

    today: datetime.date | None = Field(default=None, strict=False)
    """The date that `conversation_date: today` renders; null takes the server's clock."""
