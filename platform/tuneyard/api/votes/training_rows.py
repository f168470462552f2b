"""Votes as rows of preferences in OpenAI's form (DPO), and corrections as chats in OpenAI's form."""

from __future__ import annotations

from typing import Any

from tuneyard.api.wire.platform_api.votes import CorrectionRequest, VoteInput, VoteRequest


def preference_rows(vote: VoteRequest) -> list[dict[str, Any]]:
    """One row for each answer that lost to the preferred one; none for a tie.

    An answer is left out if it was given for another conversation than the preferred one, if it has the same text, or
    none: then the vote does not say which of two answers to one question is better.
    """
    if vote.preferred is None:
        return []
    best = vote.answers[vote.preferred]
    given = best.input or vote.input
    others = [
        answer
        for answer in vote.answers
        if (answer.input or vote.input) == given and answer.output.strip() and answer.output != best.output
    ]
    return [
        {
            "input": {"messages": _messages(given)},
            "preferred_output": [_assistant(best.output)],
            "non_preferred_output": [_assistant(answer.output)],
        }
        for answer in others
    ]


def corrected_chat(correction: CorrectionRequest) -> dict[str, Any]:
    """The conversation with the corrected answer at its end."""
    return {"messages": [*_messages(correction.input), _assistant(correction.corrected)]}


def _messages(given: VoteInput) -> list[dict[str, Any]]:
    return [message.model_dump() for message in given.messages]


def _assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}
