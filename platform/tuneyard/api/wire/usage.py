"""Token counts and finish reasons, shared by all answers."""

from __future__ import annotations

from typing import Literal

from tuneyard.api.wire.base import WireModel

FinishReason = Literal["stop", "length", "tool_calls"]


class CompletionTokensDetails(WireModel):
    """How many of the completion tokens were reasoning."""

    reasoning_tokens: int


class Usage(WireModel):
    """The engine's exact token counts. `completion_tokens` includes stop tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    completion_tokens_details: CompletionTokensDetails
