"""Files and uploads of the fine-tuning API on real Ray, by the unmodified OpenAI SDK; its command line on a cluster."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
import yaml

from tests.harmony_text import encode_spelled_out
from tests.integration.clusters import cluster
from tests.integration.kills.platform_cluster import write_rows
from tests.integration.platform_server import BASE, PlatformServer, platform_config, platform_server
from tests.integration.processes import free_port
from tests.postgresql_server import PostgresqlServer
from tests.process_memory import own_bytes
from tuneyard.api.api_keys import KeyStore

pytestmark = pytest.mark.integration
MIB = 2**20


def scripted(tiny_oss: Path, model_id: str = "scripted") -> dict[str, Any]:
    """A model that answers "ok"."""
    script = [encode_spelled_out(tiny_oss, "<|channel|>final<|message|>ok<|return|>")]
    return {
        "model_id": model_id,
        "checkpoint": str(tiny_oss),
        "engine": {"engine": "scripted", "script": script},
        "replicas": {"num_cpus": 0.2},
    }


@pytest.fixture(scope="module")
def server(tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformServer]:
    folder = tmp_path_factory.mktemp("platform")
    with platform_server(folder, tiny_oss, models=[scripted(tiny_oss)], upload_expiry_hours=0.005) as server:
        yield server


def rows(size: int) -> bytes:
    """JSONL of so many bytes."""
    row = b'{"custom_id": "1", "body": {"text": "' + b"x" * 900 + b'"}}\n'
    return (row * (size // len(row) + 1))[: size - size % len(row)]


def test_models_files_and_uploads_are_at_one_v1(server: PlatformServer, tmp_path: Path) -> None:
    secret, other = server.create_key("a"), server.create_key("b")
    content = rows(20 * MIB)
    (tmp_path / "rows.jsonl").write_bytes(content)
    with server.client(secret) as client, server.client(other) as stranger:
        answer = client.chat.completions.create(model="scripted", messages=[{"role": "user", "content": "hi"}])
        assert answer.choices[0].message.content == "ok"
        with (tmp_path / "rows.jsonl").open("rb") as file:
            whole = client.files.create(file=file, purpose="batch")
        parts = client.uploads.upload_file_chunked(
            file=tmp_path / "rows.jsonl", mime_type="text/jsonl", purpose="evals", part_size=7 * MIB
        )
        assert parts.file is not None
        for found in (whole, parts.file):
            assert hashlib.sha256(client.files.content(found.id).content).hexdigest() == found.model_extra["sha256"]  # type: ignore[index]
        assert [f.id for f in client.files.list()] == [parts.file.id, whole.id]
        assert list(stranger.files.list()) == []
        with pytest.raises(openai.NotFoundError):
            stranger.files.content(whole.id)
        for found in (whole, parts.file):
            client.files.delete(found.id)
    wait_until(lambda: contents(server) == [], "the deletion of the parts")


def test_an_upload_that_is_cut_off_leaves_nothing(server: PlatformServer) -> None:
    """Also one that the server is still receiving, when its client is killed."""
    secret = server.create_key("cut")

    def body() -> Iterator[bytes]:
        yield b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(40):
            yield b"x" * MIB
        wait_until(lambda: incoming(server) != [], "the beginning of the file")
        raise ConnectionError

    headers = {"Content-Type": "multipart/form-data; boundary=cut"}
    with server.http(secret) as client, pytest.raises(ConnectionError):
        client.post("/v1/files", content=body(), headers=headers)
    wait_until(lambda: incoming(server) == [], "the deletion of what was received")
    assert contents(server) == []


def test_an_expired_upload_is_deleted_by_the_reconciler(server: PlatformServer) -> None:
    """By the one that replaces a reconciler that was killed before the upload expired."""
    with server.client(server.create_key("expiring")) as client:
        upload = client.uploads.create(bytes=9, filename="a.jsonl", mime_type="text/jsonl", purpose="batch")
        client.uploads.parts.create(upload.id, data=b'{"a": 1}\n')
        assert contents(server) != []
        (reconciler,) = server.command.descendants("ServeReplica:gateway:Reconciler")
        os.kill(reconciler.pid, signal.SIGKILL)

        def is_replaced() -> bool:
            return any(process.pid != reconciler.pid for process in server.command.descendants("gateway:Reconciler"))

        wait_until(is_replaced, "another reconciler")
        wait_until(lambda: contents(server) == [], "the deletion of the part")
        with pytest.raises(openai.BadRequestError, match="is expired"):
            client.uploads.parts.create(upload.id, data=b"{}")


def test_a_large_upload_is_not_held_in_memory(server: PlatformServer, tmp_path: Path) -> None:
    """400 MiB: the memory of proxy and replica grows by far less. Ray's shared memory, through which the one hands the
    body to the other, is theirs too while they use it, and has a size of its own."""
    content = rows(MIB)
    with (tmp_path / "large.jsonl").open("wb") as file:
        for _ in range(400):
            file.write(content)
    processes = [
        p for name in ("ServeReplica:gateway:Platform", "ProxyActor") for p in server.command.descendants(name)
    ]
    before = [own_bytes(process) for process in processes]
    highest = list(before)
    with server.client(server.create_key("large"), timeout=300) as client, watching(processes, highest):
        with (tmp_path / "large.jsonl").open("rb") as file:
            created = client.files.create(file=file, purpose="batch")
        assert created.bytes == 400 * len(content)
        client.files.delete(created.id)
    grown = [(after - first) / MIB for first, after in zip(before, highest, strict=True)]
    assert max(grown) < 150, grown


@contextlib.contextmanager
def watching(processes: list[psutil.Process], highest: list[int]) -> Iterator[None]:
    """Keeps the most memory that each process had of its own in `highest`, in bytes."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            for number, process in enumerate(processes):
                highest[number] = max(highest[number], own_bytes(process))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_the_command_starts_shows_and_stops_it_on_a_cluster(
    tiny_oss: Path, tmp_path: Path, postgresql: PostgresqlServer
) -> None:
    """Two nodes, whose records are in PostgreSQL. What was stored is there after a stop and a start. The database's URL
    makes the deployment's config a secret of its Ray job; jobs get a config of their own all the same."""
    port, model = free_port(), scripted(tiny_oss)
    config = platform_config(tmp_path, tiny_oss, port, models=[model], files=str(tmp_path / "files"))
    content = rows(MIB)
    with cluster(tmp_path) as nodes:
        nodes.join("worker")
        _, secret = KeyStore(nodes.home / "api_keys.json").create("a")
        code, output = nodes.run("platform", "status")
        assert (code, output) == (1, "the fine-tuning API does not run on this cluster\n")
        code, output = nodes.run("platform", "start", str(config))
        assert code == 1
        assert "the cluster has 2 nodes. Its records are in a SQLite database" in output
        database = {"url": postgresql.create_database(), "password_file": str(postgresql.password_file)}
        config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"database": database}))
        created = ""
        for _ in range(2):
            code, output = nodes.run("platform", "start", str(config))
            assert code == 0, output
            assert "platform: up" in output
            code, output = nodes.run("platform", "status")
            assert code == 0, output
            assert "RUNNING" in output
            assert "Platform: 1 running" in output
            assert "Reconciler: 1 running" in output
            with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=secret) as client:
                if not created:
                    created = client.files.create(file=("a.jsonl", content), purpose="batch").id
                    train_first_step(client)
                assert client.files.content(created).content == content
            code, output = nodes.run("platform", "stop")
            assert code == 0, output
            assert "removed: gateway" in output
        code, output = nodes.run("platform", "stop")
        assert (code, "nothing to stop" in output) == (0, True)
        code, output = nodes.run("serve", "status")
        assert "scripted  RUNNING" in output
        code, output = nodes.run("serve", "stop")
        assert code == 0, output


def train_first_step(client: openai.OpenAI) -> None:
    """Runs a fine-tuning job until it has trained a step, and cancels it."""
    file = client.files.create(file=("chats.jsonl", write_rows(8)), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model=BASE, training_file=file.id)

    def has_step() -> bool:
        found = client.fine_tuning.jobs.retrieve(job.id)
        assert found.status not in ("failed", "cancelled"), found.error
        return any(event.type == "metrics" for event in client.fine_tuning.jobs.list_events(job.id))

    wait_until(has_step, "step of the job", 300)
    client.fine_tuning.jobs.cancel(job.id)


def wait_until(condition: Any, what: str, timeout_s: float = 90.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"no {what} in {timeout_s:g} s"
        time.sleep(0.1)


def contents(server: PlatformServer) -> list[str]:
    """The names of all stored contents."""
    return sorted(path.name for path in (server.home / "platform" / "files").glob("*") if path.is_file())


def incoming(server: PlatformServer) -> list[str]:
    """The names of what is being received."""
    return sorted(path.name for path in (server.home / "platform" / "files" / ".incoming").glob("*"))
