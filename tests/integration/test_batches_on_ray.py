"""Batches on real Ray, by the unmodified OpenAI SDK, while live requests come and processes are killed."""

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


@pytest.fixture(scope="module")
def server(tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformServer]:
    script = [encode_spelled_out(tiny_oss, "<|channel|>final<|message|>A rather long answer.<|return|>")]
    model = {
        "model_id": "scripted",
        "checkpoint": str(tiny_oss),
        "engine": {"engine": "scripted", "script": script, "token_interval_s": INTERVAL_S},
        "replicas": {"num_cpus": 0.2, "max_ongoing_requests": CAPACITY},
    }
    with platform_server(tmp_path_factory.mktemp("batches"), tiny_oss, models=[model]) as server:
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
