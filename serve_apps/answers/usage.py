"""The token counts of an answer, as OpenAI's `usage` object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tuneyard.api.wire.usage import CompletionTokensDetails, Usage


class CountedAnswer(Protocol):
    """A choice that counts its tokens: ChatAnswer, TextAnswer."""

    tokens: int

    @property
    def reasoning_tokens(self) -> int: ...


def count_usage(prompt_tokens: int, answers: Sequence[CountedAnswer]) -> Usage:
    """Exact counts of the engine's tokens over all choices; the prompt counts once."""
    completion = sum(answer.tokens for answer in answers)
    reasoning = sum(answer.reasoning_tokens for answer in answers)
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion,
        total_tokens=prompt_tokens + completion,
        completion_tokens_details=CompletionTokensDetails(reasoning_tokens=reasoning),
    )
