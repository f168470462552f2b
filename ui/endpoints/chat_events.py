"""The events of a streamed answer, in the order in which they come: AnsweredBy, deltas, AnswerDone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Lineage:
    """What answered, from the headers of a Tuneyard server; None where a server does not say."""

    version: str | None = None
    """`name/version` of the registered model."""
    run: str | None = None
    """Id of the run that trained it."""
    dataset: str | None = None
    """First digits of the fingerprint of the dataset that it was trained on."""
    weights: str | None = None
    """First digits of the digest of its weights."""


@dataclass(frozen=True)
class AnsweredBy:
    """The server has accepted the request."""

    lineage: Lineage


@dataclass(frozen=True)
class ReasoningDelta:
    """New text of the model's reasoning."""

    text: str


@dataclass(frozen=True)
class AnswerDelta:
    """New text of the answer."""

    text: str


@dataclass(frozen=True)
class ToolCallDelta:
    """New text of a tool call. `call_id` and `name` come with the call's first delta and are empty later."""

    index: int
    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class AnswerDone:
    """The end of a complete stream. Token counts are None when the endpoint gave no usage."""

    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    first_token_s: float | None
    """Seconds from the request to the first text, reasoning included; None when no text came."""
    total_s: float

    @property
    def tokens_per_s(self) -> float | None:
        """Decoding speed, without the wait for the first token; None if it cannot be computed."""
        if self.completion_tokens is None or self.first_token_s is None or self.completion_tokens < 2:
            return None
        decoding_s = self.total_s - self.first_token_s
        return (self.completion_tokens - 1) / decoding_s if decoding_s > 0 else None


ChatEvent = AnsweredBy | ReasoningDelta | AnswerDelta | ToolCallDelta | AnswerDone
