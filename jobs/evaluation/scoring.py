"""Scores a model's answers against the expected ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuneyard.chats.messages import ChatExample
from tuneyard.evaluation.samples import Sample, text_with_calls
from tuneyard.evaluation.string_checks import passes_string_check


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


def score_sample(example: ChatExample, sample: Sample) -> Answer:
    """Scores an answer to the example's last prompt."""
    text = text_with_calls(sample.text, sample.tool_calls)
    expected_calls = [call.model_dump() for call in example.last_answer.tool_calls]
    expected = text_with_calls(example.last_answer.content, expected_calls)
    required = example.metadata.get("must_contain") or [expected]
    return Answer(
        question=example.last_prompt[-1].content,
        text=text,
        contains=all(passes_string_check("ilike", text, part) for part in required),
        exact=passes_string_check("eq", text.strip(), expected.strip()),
        well_formed=sample.is_well_formed,
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
