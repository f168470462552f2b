"""Requests and answers of POST /v1/completions.

Source: OpenAI API reference, completions (legacy).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tuneyard.api.wire.base import WireModel
from tuneyard.api.wire.sampling import SamplingRequest
from tuneyard.api.wire.usage import FinishReason, Usage
from tuneyard.core.errors import RequestError

DEFAULT_COMPLETION_TOKENS = 16
"""OpenAI's default of max_tokens on this route."""


class CompletionRequest(SamplingRequest):
    """Body of POST /v1/completions: continues text or token ids as they are, without rendering a chat."""

    prompt: str | list[int] | list[str] | list[list[int]] = Field(min_length=1)
    """One prompt as text or token ids, or a list of prompts. The choices of prompt i are i*n to i*n+n-1."""
    max_tokens: int | None = Field(default=DEFAULT_COMPLETION_TOKENS, ge=1)
    """The most tokens to generate."""
    logprobs: int | None = Field(default=None, ge=0, le=5)
    """Log-probabilities of the text's tokens, with this many of the most likely ones at each position."""
    echo: bool = False
    """Whether the text begins with the prompt; with `logprobs`, the prompt's tokens have log-probabilities too."""
    best_of: Literal[1] = 1

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, one or more."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        # The first item tells the type of all.
        return [self.prompt] if isinstance(self.prompt[0], int) else self.prompt  # type: ignore[return-value]

    def check(self) -> None:
        super().check()
        for number, prompt in enumerate(self.prompts):
            if not prompt:
                raise RequestError(f"prompt.{number} is empty.", param=f"prompt.{number}")


class CompletionLogprobs(WireModel):
    """Log probabilities in nats, in OpenAI's legacy form: parallel lists with one item per token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    """null for the first token of an echoed prompt, which nothing precedes."""
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(WireModel):
    """One continuation of the prompt, or in a stream a piece of it."""

    index: int = 0
    text: str
    finish_reason: FinishReason | None = None
    logprobs: CompletionLogprobs | None = None


class Completion(WireModel):
    """An answer. In a stream, every event has this form."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
