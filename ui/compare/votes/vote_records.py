"""Votes and corrections of a round, in the form in which they are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuneyard.api.wire.platform_api.votes import (
    MAX_REASON,
    CorrectionRequest,
    Outcome,
    VotedAnswer,
    VoteInput,
    VoteMessage,
    VoteRequest,
)
from ui.compare.comparison import Message, Round, Side


def vote_request(
    shown: Round, outcome: Outcome, preferred: int | None, reason: str, metadata: Mapping[str, str]
) -> VoteRequest:
    """The vote on a round: with what each model was given, and what it answered."""
    given = [_vote_input(side.messages) for side in shown.sides]
    answers = tuple(
        VotedAnswer(output=side.answer, input=own if own != given[0] else None, **_origin(side))
        for side, own in zip(shown.sides, given, strict=True)
    )
    return VoteRequest(
        input=given[0],
        answers=answers,
        outcome=outcome,
        preferred=preferred,
        reason=reason.strip()[:MAX_REASON] or None,
        blind=not shown.shows_names,
        metadata=dict(metadata),
    )


def correction_request(side: Side, corrected: str, metadata: Mapping[str, str]) -> CorrectionRequest:
    """An answer as the person wrote it."""
    return CorrectionRequest(
        input=_vote_input(side.messages),
        output=side.answer,
        corrected=corrected,
        metadata=dict(metadata),
        **_origin(side),
    )


def _origin(side: Side) -> dict[str, Any]:
    """The fields of `Origin`."""
    return {
        "model": side.model.model_id,
        "version": side.lineage.version,
        "run": side.lineage.run,
        "dataset": side.lineage.dataset,
    }


def _vote_input(messages: Sequence[Message]) -> VoteInput:
    return VoteInput(messages=tuple(VoteMessage.model_validate(message) for message in messages))
