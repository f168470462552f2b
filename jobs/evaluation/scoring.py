"""Scores a model's answers against the expected ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tuneyard.chats.messages import ChatExample


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer and how it scores.

    `contains`: it holds every required string. `exact`: it equals the expected answer. `well_formed`: the model ended
    it itself, in harmony's format.
    """

    question: str
    text: str
    contains: bool
    exact: bool
    well_formed: bool


@dataclass(frozen=True, slots=True)
class Score:
    """The score of one model: shares of its answers, 0 to 1."""

    model: str
    rows: int
    contains: float
    exact: float
    well_formed: float
    answers: tuple[Answer, ...]


def score_choice(example: ChatExample, choice: Any) -> Answer:
    """Scores a choice of an OpenAI chat completion for the example's last prompt."""
    text = _answer_text(choice.message.content, choice.message.tool_calls or ())
    expected = _answer_text(example.last_answer.content, example.last_answer.tool_calls)
    required = example.metadata.get("must_contain") or [expected]
    return Answer(
        question=example.last_prompt[-1].content,
        text=text,
        contains=all(part.lower() in text.lower() for part in required),
        exact=text.strip() == expected.strip(),
        well_formed=choice.finish_reason in ("stop", "tool_calls")
        and not (choice.model_extra or {}).get("harmony_malformed", False),
    )


def score_answers(model: str, answers: Sequence[Answer]) -> Score:
    """The shares over all answers of a model; there must be at least one."""
    rows = len(answers)
    return Score(
        model=model,
        rows=rows,
        contains=sum(answer.contains for answer in answers) / rows,
        exact=sum(answer.exact for answer in answers) / rows,
        well_formed=sum(answer.well_formed for answer in answers) / rows,
        answers=tuple(answers),
    )


def _answer_text(content: str | None, calls: Sequence[Any]) -> str:
    """An answer's text, followed by one line per tool call: `name(arguments)`."""
    call_lines = [f"{call.function.name}({_sort_keys(call.function.arguments)})" for call in calls]
    return "\n".join(filter(None, [content, *call_lines]))


def _sort_keys(arguments: str) -> str:
    """A call's arguments with sorted JSON keys, so that their order does not count; as they are if not valid JSON."""
    try:
        return json.dumps(json.loads(arguments), sort_keys=True, ensure_ascii=False)
    except ValueError:
        return arguments
