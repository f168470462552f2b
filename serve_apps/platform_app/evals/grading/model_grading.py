"""The prompts and the answers of grading models: the answer is JSON, whose schema the engine enforces.

Source of the answer's form: OpenAI, guide "Graders", section "Score model grader outputs".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from serve_apps.platform_app.evals.grading.sampling import render_messages
from tuneyard.api.wire.platform_api.graders import LabelModelGrader, ScoreModelGrader
from tuneyard.core.errors import EvaluationError

MAX_STEPS = 8
"""Steps of reasoning in the answer, before its result."""


def grading_request(grader: ScoreModelGrader | LabelModelGrader, values: Mapping[str, Any]) -> dict[str, Any]:
    """The chat completion request that grades an answer. Raises EvaluationError for a variable without a value."""
    schema, name = _answer_schema(grader), "label" if isinstance(grader, LabelModelGrader) else "score"
    sampling = grader.sampling_params
    fields = sampling.model_dump(exclude_none=True) if sampling is not None else {}
    if (limit := fields.pop("max_completions_tokens", None)) is not None:
        fields["max_completion_tokens"] = limit
    return fields | {
        "model": grader.model,
        "messages": _with_format(render_messages(grader.input, values), name, schema),
        "response_format": {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}},
    }


def read_result(grader: ScoreModelGrader | LabelModelGrader, content: Mapping[str, Any]) -> float | str:
    """The score, cut to the grader's range, or the label in a grading model's answer. Raises EvaluationError."""
    choice = content["choices"][0]
    text = choice["message"].get("content") or ""
    try:
        result = json.loads(text)["result"]
    except (ValueError, TypeError, KeyError, RecursionError) as e:
        raise EvaluationError(_unusable(grader, choice["finish_reason"], text), "answer") from e
    if isinstance(grader, LabelModelGrader):
        if result in grader.labels:
            return str(result)
    elif isinstance(result, int | float) and not isinstance(result, bool):
        low, high = grader.score_range
        return min(max(float(result), low), high)
    raise EvaluationError(_unusable(grader, choice["finish_reason"], text), "answer")


def _answer_schema(grader: ScoreModelGrader | LabelModelGrader) -> dict[str, Any]:
    if isinstance(grader, LabelModelGrader):
        result: dict[str, Any] = {"type": "string", "enum": grader.labels}
    else:
        low, high = grader.score_range
        result = {"type": "number", "minimum": low, "maximum": high}
    step = {
        "type": "object",
        "properties": {"description": {"type": "string"}, "conclusion": {"type": "string"}},
        "required": ["description", "conclusion"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"steps": {"type": "array", "items": step, "maxItems": MAX_STEPS}, "result": result},
        "required": ["steps", "result"],
        "additionalProperties": False,
    }


def _with_format(messages: list[dict[str, Any]], name: str, schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The messages with the form of the answer at the end of the last instructions, where GPT-OSS learned to expect it.

    Source: OpenAI, "OpenAI harmony response format", section "Structured output".
    """
    section = f"# Response Formats\n\n## {name}\n\n{json.dumps(schema, ensure_ascii=False)}"
    instructions = [number for number, message in enumerate(messages) if message["role"] in ("system", "developer")]
    if not instructions:
        return [{"role": "developer", "content": section}, *messages]
    changed = dict(messages[instructions[-1]])
    changed["content"] = f"{changed['content']}\n\n{section}"
    return [changed if number == instructions[-1] else message for number, message in enumerate(messages)]


def _unusable(grader: ScoreModelGrader | LabelModelGrader, finish_reason: str, text: str) -> str:
    if finish_reason == "length":
        return (
            f"The answer of the grading model {grader.model} was cut off before its result. Raise "
            "sampling_params.max_completions_tokens of the grader, or shorten its input."
        )
    return f"The answer of the grading model {grader.model} has no usable result: {text[:200]!r}."
