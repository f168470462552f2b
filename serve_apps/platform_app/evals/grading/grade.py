"""grade: the score that a grader gives an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serve_apps.platform_app.evals.grading.model_calls import Completion, ModelCaller
from serve_apps.platform_app.evals.grading.model_grading import grading_request, read_result
from serve_apps.platform_app.evals.grading.sampling import sample_object
from tuneyard.api.wire.platform_api.graders import (
    AnyGrader,
    LabelModelGrader,
    MultiGrader,
    ScoreModelGrader,
    StringCheckGrader,
    TextSimilarityGrader,
)
from tuneyard.evaluation.formulas import Formula
from tuneyard.evaluation.similarity.metrics import text_similarity
from tuneyard.evaluation.string_checks import passes_string_check
from tuneyard.evaluation.templates import Template


@dataclass(frozen=True, slots=True)
class Grade:
    """A score, whether it passes, and how it came about."""

    score: float
    passed: bool
    label: str | None = None
    """The label that a label_model grader chose."""
    completions: tuple[Completion, ...] = ()
    """The answers of grading models."""
    sub_scores: Mapping[str, float] = field(default_factory=dict)
    """The scores of a multi grader's graders, by name."""

    def result(self, name: str, grader_type: str) -> dict[str, Any]:
        """The grade as an entry of an output item's `results`."""
        fields: dict[str, Any] = {"name": name, "type": grader_type, "passed": self.passed, "score": self.score}
        fields["sample"] = sample_object(self.completions[0]) if len(self.completions) == 1 else None
        if self.label is not None:
            fields["label"] = self.label
        return fields | ({"sub_scores": dict(self.sub_scores)} if self.sub_scores else {})


async def grade(grader: AnyGrader, values: Mapping[str, Any], models: ModelCaller, request_id: str = "") -> Grade:
    """The grade of an answer; `values` are the namespaces `item` and `sample` of templates.

    Raises EvaluationError if a variable has no value, a model does not answer, or a formula has no value; and what
    ModelCaller.complete raises.
    """
    match grader:
        case StringCheckGrader():
            passed = passes_string_check(
                grader.operation, _render(grader.input, values), _render(grader.reference, values)
            )
            return Grade(float(passed), passed)
        case TextSimilarityGrader():
            texts = _render(grader.input, values), _render(grader.reference, values)
            # Long texts take a while, and a thread lets other rows go on.
            score = await asyncio.to_thread(text_similarity, grader.evaluation_metric, *texts)
            return Grade(score, score >= grader.threshold)
        case ScoreModelGrader():
            completion = await models.complete(grading_request(grader, values), request_id)
            score = float(read_result(grader, completion.content))
            return Grade(score, score >= grader.threshold, completions=(completion,))
        case LabelModelGrader():
            completion = await models.complete(grading_request(grader, values), request_id)
            label = str(read_result(grader, completion.content))
            passed = label in grader.passing_labels
            return Grade(float(passed), passed, label, (completion,))
        case MultiGrader():
            return await _grade_all(grader, values, models, request_id)


async def _grade_all(grader: MultiGrader, values: Mapping[str, Any], models: ModelCaller, request_id: str) -> Grade:
    grades = [await grade(part, values, models, request_id) for part in grader.graders.values()]
    scores = {name: part.score for name, part in zip(grader.graders, grades, strict=True)}
    score = Formula(grader.calculate_output, grader.graders).evaluate(scores)
    completions = tuple(completion for part in grades for completion in part.completions)
    return Grade(score, score >= grader.threshold, completions=completions, sub_scores=scores)


def _render(text: str, values: Mapping[str, Any]) -> str:
    return Template.parse(text).render(values)
