"""Scores of models on tasks, from what lm_eval returns, and as a text table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Form = Literal["chat", "text"]
"""How a task is asked: as a chat, rendered as in serving; or as plain text that the model continues or scores."""


@dataclass(frozen=True, slots=True)
class TaskScore:
    """The score of one model on one task or group."""

    task: str
    form: Form
    rows: int
    fewshot: int | None
    """Solved examples before each question; None for a group, whose tasks may differ."""
    version: str
    metrics: dict[str, float]
    """By lm_eval's names, such as `acc,none` (metric, filter); errors are `acc_stderr,none`."""
    empty_answers: int
    """Rows whose generated answer is empty."""
    samples: tuple[dict[str, Any], ...]
    """lm_eval's record of each row: document, requests, responses, target, metrics. Empty for a group."""


@dataclass(frozen=True, slots=True)
class ModelScores:
    """The scores of one model on all tasks, or on those that were finished when it failed."""

    model: str
    lm_eval: str
    """lm_eval's version, which decides prompts and metrics."""
    tasks: tuple[TaskScore, ...]


def task_scores(results: dict[str, Any], form: Form) -> list[TaskScore]:
    """The scores in what lm_eval.simple_evaluate returns: each task, then each group."""
    names = [*results["results"], *(name for name in results.get("groups") or {} if name not in results["results"])]
    return [_task_score(name, results, form) for name in names]


def _task_score(name: str, results: dict[str, Any], form: Form) -> TaskScore:
    values = (results.get("groups") or {}).get(name) or results["results"][name]
    samples = tuple((results.get("samples") or {}).get(name, ()))
    # A task with several filters has a sample for each of them.
    rows = {sample["doc_id"] for sample in samples}
    empty = {sample["doc_id"] for sample in samples if _is_empty(sample["resps"])}
    return TaskScore(
        task=name,
        form=form,
        rows=len(rows) or int(values.get("sample_len", 0)),
        fewshot=results["n-shot"].get(name) if samples else None,
        version=str(results["versions"].get(name, "")),
        metrics={key: float(value) for key, value in values.items() if "," in key and _is_number(value)},
        empty_answers=len(empty),
        samples=samples,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_empty(responses: Iterable[Sequence[Any]]) -> bool:
    """Whether a row's responses are generated texts without a visible character."""
    texts = [response for repeats in responses for response in repeats]
    return all(isinstance(text, str) and not text.strip() for text in texts)


def task_table(scores: Sequence[ModelScores]) -> str:
    """A row per task and metric and a column per model; values are followed by their standard error.

    A model that lacks a task, because it failed before, has `-` there.
    """
    header = ["task", "asked as", "rows", "metric", *(model.model for model in scores)]
    lines = [header]
    metrics = [{task.task: task.metrics for task in model.tasks} for model in scores]
    for first in max(scores, key=lambda model: len(model.tasks)).tasks:
        for key in first.metrics:
            metric, _, name = key.partition(",")
            if metric.endswith("_stderr"):
                continue
            label = metric if name == "none" else f"{metric} ({name})"
            values = [_value(model.get(first.task, {}), metric, name) for model in metrics]
            lines.append([first.task, first.form, str(first.rows), label, *values])
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*text, *_notes(scores)])


def _value(metrics: dict[str, float], metric: str, name: str) -> str:
    value, error = metrics.get(f"{metric},{name}"), metrics.get(f"{metric}_stderr,{name}")
    if value is None:
        return "-"
    return f"{value:.4f}" if error is None else f"{value:.4f} ± {error:.4f}"


def _notes(scores: Sequence[ModelScores]) -> list[str]:
    return [
        f"{model.model}: {task.empty_answers} of {task.rows} answers to {task.task} are empty. If reasoning used up "
        "the tokens of an answer, give more with --max-tokens."
        for model in scores
        for task in model.tasks
        if task.empty_answers
    ]
