"""Task files of our own and their rows, and a datasets cache that is empty."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROWS: list[dict[str, Any]] = [
    {"question": "What does E47 mean?", "choices": ["The filter is dirty", "Nothing", "It is late"], "answer": 0},
    {"question": "May I wash it at 60 °C?", "choices": ["Yes", "No"], "answer": 1},
    {"question": "Wie heißt der größte Vogel? 🐦", "choices": ["Strauß", "Spatz", "Möwe", "Ente"], "answer": 0},
    {"question": "One plus one is", "choices": ["two", "three"], "answer": 0},
]
CHOICE: dict[str, Any] = {
    "task": "our_choice",
    "output_type": "multiple_choice",
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "answer",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
ANSWER: dict[str, Any] = {
    "task": "our_answer",
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{choices[answer]}}",
    "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 12, "do_sample": False},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}

PERPLEXITY: dict[str, Any] = {
    "task": "our_perplexity",
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{question}}",
    "metric_list": [{"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False}],
}

WriteTask = Callable[..., Path]
"""Writes the file of a task, and returns its folder."""


@pytest.fixture(autouse=True)
def datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where `datasets` keeps what it has loaded, without anything of this machine's own."""
    cache = tmp_path / "datasets_cache"
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", cache)
    return cache


@pytest.fixture
def write_task(tmp_path: Path) -> WriteTask:
    folder = tmp_path / "tasks"

    def write(task: dict[str, Any], /, **changes: Any) -> Path:
        folder.mkdir(exist_ok=True)
        rows = folder / "rows.jsonl"
        rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
        source = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(rows)}}, "test_split": "test"}
        task = source | task | changes
        # JSON is YAML too.
        (folder / f"{task.get('task')}.yaml").write_text(json.dumps(task), encoding="utf-8")
        return folder

    return write
