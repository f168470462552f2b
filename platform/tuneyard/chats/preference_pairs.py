"""Preference pairs: two answers to one prompt, joined from the chats that the two halves of a row give."""

from __future__ import annotations

from collections.abc import Sequence

from tuneyard.chats.messages import ChatExample, ChatMessage
from tuneyard.chats.row_problems import RowProblem
from tuneyard.core.wording import short_repr

Half = tuple[ChatExample | None, tuple[RowProblem, ...]]
"""A half of a row as a chat, if it is one, and its problems."""


def join_pair(where: str, chosen: Half, rejected: Half) -> Half:
    """The pair of the two halves, and the problems of both; no pair if one of them prevents it."""
    problems = _joined_problems(chosen[1], rejected[1])
    if chosen[0] is None or rejected[0] is None:
        return None, problems
    preferred, other = chosen[0], rejected[0]
    if (difference := _find_difference(preferred, other)) is not None:
        text = (
            f"the two answers do not follow the same prompt: {difference}. The chats of a pair may differ in their "
            "last message only. Correct the row, or drop such rows: data.problems.different_prompts=drop."
        )
        return None, (*problems, RowProblem(where, "different_prompts", text))
    answer, rejected_answer = preferred.messages[-1], other.messages[-1]
    if _text_of(answer) == _text_of(rejected_answer):
        text = f"the two answers are the same: {short_repr(answer.content)}. Nothing can be preferred. Remove the row."
        problems = (*problems, RowProblem(where, "equal_answers", text))
    if answer.weight == 0 or rejected_answer.weight == 0:
        text = "an answer has weight 0, so nothing is learnt from the pair. Remove the row, or correct the weights."
        problems = (*[p for p in problems if p.kind != "no_trained_turn"], RowProblem(where, "no_trained_turn", text))
    pair = {"messages": (*map(_untrained, preferred.messages[:-1]), answer), "rejected": rejected_answer}
    return preferred.model_copy(update=pair), problems


def _joined_problems(chosen: Sequence[RowProblem], rejected: Sequence[RowProblem]) -> tuple[RowProblem, ...]:
    """The problems of both halves once, those of one of them with its name. The unused half is no problem of a pair."""
    both = [problem for problem in chosen if problem in rejected]
    own = [
        RowProblem(problem.where, problem.kind, f"with the {name} answer, {problem.text}", problem.group)
        for name, problems in (("chosen", chosen), ("rejected", rejected))
        for problem in problems
        if problem not in both and problem.kind != "unused_answer"
    ]
    return (*[problem for problem in both if problem.kind != "unused_answer"], *own)


def _find_difference(chosen: ChatExample, rejected: ChatExample) -> str | None:
    """Where the prompts of the two chats differ; None if they are the same."""
    if chosen.tools != rejected.tools:
        return "their tools differ"
    counts = len(chosen.messages), len(rejected.messages)
    pairs = zip(chosen.messages[:-1], rejected.messages[:-1], strict=False)
    for number, (message, other) in enumerate(pairs, start=1):
        if message.role != other.role or _text_of(message) != _text_of(other):
            return (
                f"message {number} ({message.role}) is {short_repr(message.content)} with the chosen answer, and "
                f"({other.role}) {short_repr(other.content)} with the rejected one"
            )
    if counts[0] != counts[1]:
        return f"with the chosen answer the chat has {counts[0]} messages, with the rejected one {counts[1]}"
    return None


def _text_of(message: ChatMessage) -> ChatMessage:
    """The message without what no prompt shows."""
    return message.model_copy(update={"weight": None})


def _untrained(message: ChatMessage) -> ChatMessage:
    return message.model_copy(update={"weight": 0}) if message.role == "assistant" else message
