"""Scores from lm_eval's results, and their table."""

from __future__ import annotations

from typing import Any

from jobs.evaluation.tasks.scores import ModelScores, TaskScore, task_scores, task_table

SAMPLES: list[dict[str, Any]] = [
    {"doc_id": row, "resps": [[text]], "filter": name}
    for name in ("strict", "none")
    for row, text in ((0, "four"), (3, " \n"))
]
RESULTS: dict[str, Any] = {
    "results": {
        "sums": {
            "alias": "sums",
            "exact_match,strict": 0.5,
            "exact_match_stderr,strict": 0.25,
            "exact_match,none": 1,
            "exact_match_stderr,none": "N/A",
        },
        "all": {"alias": "all"},
    },
    "groups": {"all": {"alias": "all", "exact_match,none": 0.75, "exact_match_stderr,none": "N/A", "sample_len": 2}},
    "n-shot": {"sums": 5},
    "versions": {"sums": 3.0},
    "samples": {"sums": SAMPLES},
}


def test_rows_are_counted_once_whatever_the_filters() -> None:
    task, group = task_scores(RESULTS, "chat")
    assert (task.task, task.rows, task.empty_answers, task.fewshot, task.version) == ("sums", 2, 1, 5, "3.0")
    assert task.metrics == {"exact_match,strict": 0.5, "exact_match_stderr,strict": 0.25, "exact_match,none": 1.0}
    assert (group.task, group.rows, group.fewshot, group.samples) == ("all", 2, None, ())
    assert group.metrics == {"exact_match,none": 0.75}


def test_scored_texts_are_no_empty_answers() -> None:
    scored = RESULTS | {"samples": {"sums": [{"doc_id": 0, "resps": [[[-1.5, False]], [[-2.5, True]]]}]}}
    assert task_scores(scored, "text")[0].empty_answers == 0


def test_the_table_has_a_column_per_model_and_says_which_answers_are_empty() -> None:
    tasks = tuple(task_scores(RESULTS, "chat"))
    other = (TaskScore("sums", "chat", 2, 5, "3.0", {"exact_match,none": 0.5}, 0, ()), tasks[1])
    lines = task_table([ModelScores("a-model", "0.4.13", tasks), ModelScores("b", "0.4.13", other)]).splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["task", "asked", "as", "rows", "metric", "a-model", "b"],
        ["sums", "chat", "2", "exact_match", "(strict)", "0.5000", "±", "0.2500", "-"],
        ["sums", "chat", "2", "exact_match", "1.0000", "0.5000"],
        ["all", "chat", "2", "exact_match", "0.7500", "0.7500"],
    ]
    assert lines[4].startswith("a-model: 1 of 2 answers to sums are empty. If reasoning used up")
    assert len(lines) == 5
