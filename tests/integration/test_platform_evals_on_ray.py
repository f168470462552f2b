"""Evals through the unmodified OpenAI SDK on real Ray: a served model answers and grades, with an enforced schema."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.integration.platform_server import PlatformServer, platform_server

pytestmark = pytest.mark.integration
MODEL = "tiny"
ROWS = [{"question": f"What is {n} plus {n}?", "answer": str(2 * n)} for n in range(24)]
DEADLINE_S = 180.0


@pytest.fixture(scope="module")
def server(tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformServer]:
    model = {
        "model_id": MODEL,
        "checkpoint": str(tiny_oss),
        "engine": {"kv_cache_tokens": 8192},
        "replicas": {"num_cpus": 0.5},
    }
    with platform_server(tmp_path_factory.mktemp("platform"), tiny_oss, models=[model]) as running:
        yield running


def start_run(client: openai.OpenAI) -> Any:
    """A run whose answers of few tokens are compared, and graded by the same model."""
    question: Any = [{"role": "user", "content": "Is {{ sample.output_text }} the answer to {{ item.question }}"}]
    criteria: Any = [
        {"type": "string_check", "name": "same", "input": "{{ sample.output_text }}", "operation": "eq",
         "reference": "{{ item.answer }}"},
        {"type": "text_similarity", "name": "near", "input": "{{ sample.output_text }}",
         "reference": "{{ item.answer }}", "evaluation_metric": "fuzzy_match", "pass_threshold": 0.5},
        {"type": "label_model", "name": "judged", "model": MODEL, "input": question, "labels": ["yes", "no"],
         "passing_labels": ["yes"], "sampling_params": {"max_completions_tokens": 64, "temperature": 0}},
    ]  # fmt: skip
    schema: Any = {"type": "object", "properties": {"question": {"type": "string"}, "answer": {"type": "string"}}}
    config: Any = {"type": "custom", "item_schema": schema, "include_sample_schema": True}
    parent = client.evals.create(name="sums", data_source_config=config, testing_criteria=criteria)
    lines = "".join(json.dumps({"item": row}) + "\n" for row in ROWS).encode()
    file = client.files.create(file=("sums.jsonl", lines), purpose="evals")
    source: Any = {
        "type": "completions",
        "model": MODEL,
        "source": {"type": "file_id", "id": file.id},
        "input_messages": {"type": "template", "template": [{"role": "user", "content": "{{ item.question }}"}]},
        "sampling_params": {"temperature": 0, "max_completion_tokens": 8},
    }
    return client.evals.runs.create(parent.id, data_source=source)


def wait_for_items(client: openai.OpenAI, run: Any, count: int) -> Any:
    """The run when it has ended, or has so many output items."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        found = client.evals.runs.retrieve(run.id, eval_id=run.eval_id)
        if found.status not in ("queued", "in_progress") or found.result_counts.total >= count:
            return found
        assert time.monotonic() < deadline, f"{found.status} with {found.result_counts} after {DEADLINE_S} s"
        time.sleep(0.1)


def test_a_run_goes_on_after_its_reconciler_was_killed(server: PlatformServer) -> None:
    client, stranger = server.client(server.create_key("owner")), server.client(server.create_key("stranger"))
    run = start_run(client)
    begun = wait_for_items(client, run, 2)
    assert begun.status == "in_progress", "the run ended before its reconciler was killed"
    (reconciler,) = server.command.descendants("ServeReplica:gateway:Reconciler")
    os.kill(reconciler.pid, signal.SIGKILL)
    ended = wait_for_items(client, run, len(ROWS) + 1)
    assert ended.status == "completed", ended.error
    items = list(client.evals.runs.output_items.list(run.id, eval_id=run.eval_id, limit=10))
    assert [item.datasource_item for item in items] == ROWS
    counts = ended.result_counts
    assert (counts.total, counts.errored + counts.failed + counts.passed) == (len(ROWS), len(ROWS))
    for number, criterion in enumerate(ended.per_testing_criteria_results):
        results = [item.results[number] for item in items]
        graded = [result for result in results if "error" not in result.to_dict()]
        assert criterion.passed == sum(result.passed for result in graded)
        assert criterion.failed == len(graded) - criterion.passed
    (usage,) = ended.per_model_usage
    judged = [item.results[2] for item in items]
    labels = [result.to_dict().get("label") for result in judged if "error" not in result.to_dict()]
    assert set(labels) <= {"yes", "no"}
    assert usage.invocation_count == 2 * len(ROWS)
    for result in judged:  # an answer of random weights may be cut off before its end, and is never of another form
        message = result.to_dict().get("error", {"message": "was cut off"})["message"]  # type: ignore[union-attr,index]
        assert "was cut off" in message
    with pytest.raises(openai.NotFoundError):
        stranger.evals.runs.retrieve(run.id, eval_id=run.eval_id)
    client.evals.delete(run.eval_id)
