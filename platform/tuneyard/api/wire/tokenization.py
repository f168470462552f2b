"""Requests and answers of POST /tokenize and POST /detokenize."""

from __future__ import annotations

from pydantic import Field

from tuneyard.api.wire.base import Items, RequestModel, WireModel
from tuneyard.api.wire.effort import RequestedEffort
from tuneyard.api.wire.messages import RequestMessage, check_messages
from tuneyard.api.wire.tools import RequestTool
from tuneyard.core.errors import RequestError


class TokenizeRequest(RequestModel):
    """Body of POST /tokenize: `prompt`, whose text never becomes a special token, or `messages`, rendered as a chat."""

    model: str
    prompt: str | None = None
    messages: list[RequestMessage] | None = Field(default=None, min_length=1)
    tools: Items[RequestTool] = ()
    reasoning_effort: RequestedEffort | None = None

    def check(self) -> None:
        if (self.prompt is None) == (self.messages is None):
            raise RequestError("Give either prompt or messages.", param="prompt")
        if self.prompt is not None and (self.tools or self.reasoning_effort):
            raise RequestError(
                "tools and reasoning_effort are only allowed with messages, not with prompt.", param="prompt"
            )
        check_messages(self.messages or ())


class DetokenizeRequest(RequestModel):
    """Body of POST /detokenize."""

    model: str
    tokens: list[int]


class Tokenized(WireModel):
    """Token ids, their number, and the model's context length in tokens."""

    tokens: list[int]
    count: int
    max_model_len: int


class Detokenized(WireModel):
    """The text of the tokens."""

    prompt: str
