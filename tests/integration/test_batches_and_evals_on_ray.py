"""Batches and evals on real Ray, by the unmodified OpenAI SDK, while live requests come and processes are killed.

An eval's model answers and grades, with an enforced schema.
"""

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
from openai.types import Batch

from tests.harmony_text import encode_spelled_out
from tests.integration.platform_server import PlatformServer, platform_server

pytestmark = pytest.mark.integration
CHATS = "/v1/chat/completions"
CAPACITY, INTERVAL_S = 8, 0.02
ENDED = ("completed", "failed", "cancelled", "expired")
MODEL = "tiny"
"""The model of the evals."""
EVAL_ROWS = [{"question": f"What is {n} plus {n}?", "answer": str(2 * n)} for n in range(24)]
EVAL_DEADLINE_S = 180.0


@pytest.fixture(scope="module")
def server(tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformServer]:
    script = [encode_spelled_out(tiny_oss, "<|channel|>final<|message|>A rather long answer.<|return|>")]
    model = {
        "model_id": "scripted",
        "checkpoint": str(tiny_oss),
        "engine": {"engine": "scripted", "script": script, "token_interval_s": INTERVAL_S},
        "replicas": {"num_cpus": 0.2, "max_ongoing_requests": CAPACITY},
    }
    evaluated = {
        "model_id": MODEL,
        "checkpoint": str(tiny_oss),
        "engine": {"kv_cache_tokens": 8192},
        "replicas": {"num_cpus": 0.5},
    }
    with platform_server(tmp_path_factory.mktemp("platform"), tiny_oss, models=[model, evaluated]) as server:
        yield server


def chat(text: str = "hi") -> Any:
    return {"model": "scripted", "messages": [{"role": "user", "content": text}]}


def create(client: openai.OpenAI, count: int) -> Batch:
    """A batch of so many requests, of which each tenth is wrong."""
    lines = [
        {"custom_id": str(n), "method": "POST", "url": CHATS, "body": chat(str(n)) | ({"n": 0} if n % 10 == 9 else {})}
        for n in range(count)
    ]
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    file = client.files.create(file=("requests.jsonl", content), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=CHATS, completion_window="24h")


def wait_for(client: openai.OpenAI, batch: Batch, *, completed: int | None = None, timeout_s: float = 120) -> Batch:
    """The batch at its end, or as soon as so many of its requests are completed."""
    deadline = time.monotonic() + timeout_s
    while batch.status not in ENDED:
        assert batch.request_counts is not None
        if completed is not None and batch.request_counts.completed >= completed:
            break
        assert time.monotonic() < deadline, batch
        time.sleep(0.2)
        batch = client.batches.retrieve(batch.id)
    return batch


def read(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


def kill(server: PlatformServer, name: str) -> None:
    (process,) = server.command.descendants(name)
    os.kill(process.pid, signal.SIGKILL)


def test_every_request_has_one_result_though_processes_are_killed(server: PlatformServer) -> None:
    """The reconciler twice, and the model's replica once."""
    count = 1000
    with server.client(server.create_key("mine")) as client, server.client(server.create_key("theirs")) as stranger:
        batch = wait_for(client, create(client, count), completed=100)
        kill(server, "gateway:Reconciler")
        batch = wait_for(client, batch, completed=300)
        kill(server, "scripted:ModelReplica")
        batch = wait_for(client, batch, completed=500)
        kill(server, "gateway:Reconciler")
        batch = wait_for(client, batch, timeout_s=240)
        assert batch.status == "completed"
        outputs, errors = read(client, batch.output_file_id), read(client, batch.error_file_id)
        assert sorted(int(line["custom_id"]) for line in (*outputs, *errors)) == list(range(count))
        assert {int(line["custom_id"]) % 10 for line in errors} == {9}
        assert {line["response"]["status_code"] for line in errors} == {400}
        assert batch.request_counts is not None
        assert batch.request_counts.to_dict() == {"total": count, "completed": len(outputs), "failed": len(errors)}
        left = [path.name for path in (server.home / "platform" / "files").rglob("*.jsonl")]
        files = [str(file) for file in (batch.input_file_id, batch.output_file_id, batch.error_file_id)]
        assert len(left) == len(files)
        assert all(any(name.startswith(file) for name in left) for file in files)
        with pytest.raises(openai.NotFoundError):
            stranger.batches.retrieve(batch.id)
        assert list(stranger.batches.list()) == []


def test_live_requests_come_first(server: PlatformServer) -> None:
    """A batch fills the model; a live request takes as long as on an idle one, but for a moment."""
    with server.client(server.create_key("live")) as client:

        def seconds() -> float:
            started = time.monotonic()
            assert client.chat.completions.create(**chat()).choices[0].finish_reason == "stop"
            return time.monotonic() - started

        seconds()
        idle = min(seconds() for _ in range(5))
        batch = wait_for(client, create(client, 1500), completed=60)
        busy = sorted(seconds() for _ in range(15))
        assert client.batches.retrieve(batch.id).status == "in_progress"
        assert busy[7] < idle + 0.3, (idle, busy)
        client.batches.cancel(batch.id)
        batch = wait_for(client, batch)
        assert batch.status == "cancelled"
        lines = [*read(client, batch.output_file_id), *read(client, batch.error_file_id)]
        assert sorted(int(line["custom_id"]) for line in lines) == list(range(1500))


def start_eval(client: openai.OpenAI) -> Any:
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
    lines = "".join(json.dumps({"item": row}) + "\n" for row in EVAL_ROWS).encode()
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
    deadline = time.monotonic() + EVAL_DEADLINE_S
    while True:
        found = client.evals.runs.retrieve(run.id, eval_id=run.eval_id)
        if found.status not in ("queued", "in_progress") or found.result_counts.total >= count:
            return found
        assert time.monotonic() < deadline, f"{found.status} with {found.result_counts} after {EVAL_DEADLINE_S} s"
        time.sleep(0.1)


def test_an_eval_goes_on_after_its_reconciler_was_killed(server: PlatformServer) -> None:
    client, stranger = server.client(server.create_key("owner")), server.client(server.create_key("stranger"))
    run = start_eval(client)
    begun = wait_for_items(client, run, 2)
    assert begun.status == "in_progress", "the run ended before its reconciler was killed"
    (reconciler,) = server.command.descendants("ServeReplica:gateway:Reconciler")
    os.kill(reconciler.pid, signal.SIGKILL)
    ended = wait_for_items(client, run, len(EVAL_ROWS) + 1)
    assert ended.status == "completed", ended.error
    items = list(client.evals.runs.output_items.list(run.id, eval_id=run.eval_id, limit=10))
    assert [item.datasource_item for item in items] == EVAL_ROWS
    counts = ended.result_counts
    assert (counts.total, counts.errored + counts.failed + counts.passed) == (len(EVAL_ROWS), len(EVAL_ROWS))
    for number, criterion in enumerate(ended.per_testing_criteria_results):
        results = [item.results[number] for item in items]
        graded = [result for result in results if "error" not in result.to_dict()]
        assert criterion.passed == sum(result.passed for result in graded)
        assert criterion.failed == len(graded) - criterion.passed
    (usage,) = ended.per_model_usage
    judged = [item.results[2] for item in items]
    labels = [result.to_dict().get("label") for result in judged if "error" not in result.to_dict()]
    assert set(labels) <= {"yes", "no"}
    assert usage.invocation_count == 2 * len(EVAL_ROWS)
    for result in judged:  # an answer of random weights may be cut off before its end, and is never of another form
        message = result.to_dict().get("error", {"message": "was cut off"})["message"]  # type: ignore[union-attr,index]
        assert "was cut off" in message
    with pytest.raises(openai.NotFoundError):
        stranger.evals.runs.retrieve(run.id, eval_id=run.eval_id)
    client.evals.delete(run.eval_id)
