"""Serving on Ray Serve: the openai client, errors, disconnects, full queues, refused checkpoints, parity, shutdown."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
import yaml

from tests.harmony_text import encode_spelled_out
from tests.integration.conftest import Finetuned
from tests.integration.processes import Command, free_port, run, running
from tests.integration.slow_client import send_headers_slowly

pytestmark = pytest.mark.integration
ENDLESS = "<|channel|>final<|message|>on and on "


@dataclass(frozen=True)
class Served:
    """A running deployment of two models."""

    command: Command
    root: str
    config: Path


def serve_command(config: Path, *more: str) -> tuple[str, ...]:
    """The arguments of `python` that serve the config on a private Ray."""
    return ("-m", "serve_apps.deploy", "--config", str(config), "--address", "local", *more)


@pytest.fixture(scope="module")
def served(finetuned: Finetuned, tiny_oss: Path) -> Iterator[Served]:
    """A finetuned model, and a scripted one whose answers are endless. At the end, Ctrl-C ends every process."""
    port = free_port()
    scripted = {"engine": "scripted", "script": [encode_spelled_out(tiny_oss, ENDLESS)], "token_interval_s": 0.05}
    config = {
        "http": {"port": port, "header_limits": {"timeout_s": 3}},
        "models": [
            {"model_id": "tuned", "checkpoint": "tiny-support@newest", "replicas": {"num_cpus": 0.5}},
            {
                "model_id": "endless",
                "checkpoint": str(tiny_oss),
                "route_prefix": "/endless",
                "codec": {"reasoning_effort": "high"},
                "engine": scripted,
                "replicas": {"num_cpus": 0.5, "max_ongoing_requests": 3, "max_queued_requests": 1},
            },
        ],
    }
    path = finetuned.folder / "serve.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    with running(finetuned.folder, finetuned.home, *serve_command(path)) as command:
        command.wait_for(lambda: "Ctrl-C stops it" in command.output, "deployment")
        yield Served(command, f"http://127.0.0.1:{port}", path)
        processes = command.descendants()
        assert command.interrupt() == 0, command.output
        _, alive = psutil.wait_procs(processes, timeout=30)
        assert alive == []


def test_the_openai_client_gets_the_same_answer_streamed_and_whole(served: Served) -> None:
    client = openai.OpenAI(base_url=f"{served.root}/v1", api_key="none")
    (model,) = client.models.list().data
    assert model.id == "tuned"
    request = {"model": "tuned", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0, "max_tokens": 30}
    whole = client.chat.completions.create(**request)
    stream = client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True})
    *chunks, last = list(stream)
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    reasoning = "".join((delta.model_extra or {}).get("reasoning_content") or "" for delta in deltas)
    assert reasoning == ((whole.choices[0].message.model_extra or {}).get("reasoning_content") or "")
    assert last.usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.completion_tokens <= 30
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    client.close()


def test_wrong_requests_get_openai_errors(served: Served) -> None:
    with openai.OpenAI(base_url=f"{served.root}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.NotFoundError, match="Served: tuned"):
            client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "x"}])
        with pytest.raises(openai.BadRequestError, match="maximum context length is"):
            client.chat.completions.create(model="tuned", messages=[{"role": "user", "content": "word " * 9000}])
    response = httpx.post(
        f"{served.root}/v1/chat/completions", content=b"{", headers={"Content-Type": "application/json"}
    )
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_json")


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_disconnects_aborts_its_request(served: Served, stream: bool) -> None:

    def requests_in_engine() -> int | None:
        """None while the queue, which has one place, still holds the request: then the question is refused."""
        answer = httpx.get(f"{served.root}/endless/healthz")
        count: int | None = answer.json()["requests"] if answer.status_code == 200 else None
        return count

    assert requests_in_engine() == 0
    host, port = served.root.removeprefix("http://").split(":")
    body = json.dumps({"model": "endless", "messages": [{"role": "user", "content": "x"}], "stream": stream})
    request = (
        f"POST /endless/v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(request.encode())
        # Without a disconnect, the answer would be 2000 tokens at 20 per second.
        served.command.wait_for(lambda: requests_in_engine() == 1, "request in the engine")
    served.command.wait_for(lambda: requests_in_engine() == 0, "abort in the engine")


def test_slow_headers_end_a_connection_to_serves_proxy(served: Served) -> None:
    assert send_headers_slowly(served.root).startswith(b"HTTP/1.1 408")


def test_a_full_queue_is_refused_with_retry_after(served: Served) -> None:
    """Three requests run and one waits, all with open streams; one more waits in Serve's queue."""
    body = {"model": "endless", "messages": [{"role": "user", "content": "x"}], "stream": True}

    async def refused_answers() -> list[httpx.Response]:
        """Opens 4 streams, sends 6 more requests at once, returns the answers that are not 200, and closes all."""
        async with httpx.AsyncClient(base_url=f"{served.root}/endless", timeout=60) as client:

            def send() -> Coroutine[Any, Any, httpx.Response]:
                return client.send(client.build_request("POST", "/v1/chat/completions", json=body), stream=True)

            opened = [await send() for _ in range(4)]
            assert [answer.status_code for answer in opened] == [200] * 4
            sent = [asyncio.create_task(send()) for _ in range(6)]
            await asyncio.wait(sent, timeout=5)
            answers = [task.result() for task in sent if task.done()]
            for task in sent:
                task.cancel()
            for answer in (*opened, *answers):
                await answer.aclose()
        return [answer for answer in answers if answer.status_code != 200]

    refused = asyncio.run(refused_answers())
    assert refused
    assert {(answer.status_code, answer.headers["retry-after"]) for answer in refused} == {(503, "1")}
    health = f"{served.root}/endless/healthz"
    served.command.wait_for(lambda: httpx.get(health).json()["requests"] == 0, "end of all requests")


def test_a_port_in_use_is_reported_with_another_port(served: Served, finetuned: Finetuned) -> None:
    code, output = run(finetuned.folder, finetuned.home, *serve_command(served.config))
    port = served.root.rsplit(":", 1)[1]
    assert code == 1
    assert f"Port {port} on 127.0.0.1 is taken" in output
    assert f"--set http.port={int(port) + 1}" in output
    assert "Traceback" not in output


def test_a_codec_that_differs_from_training_is_refused(finetuned: Finetuned, tmp_path: Path) -> None:
    config = {
        "http": {"port": free_port()},
        "models": [
            {"model_id": "m", "checkpoint": "tiny-support@newest", "codec": {"knowledge_cutoff": "2025-01"}},
        ],
    }
    path = tmp_path / "serve.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    code, output = run(tmp_path, finetuned.home, *serve_command(path))
    assert code == 1
    assert "is not the one that the checkpoint was trained with" in output


def test_a_damaged_and_an_unknown_checkpoint_are_refused(finetuned: Finetuned, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finetuned.checkpoint, copy)
    weights = copy / "model.safetensors"
    weights.chmod(0o644)
    data = bytearray(weights.read_bytes())
    data[-100] ^= 1
    weights.write_bytes(data)
    path = tmp_path / "serve.yaml"
    models = [
        {"model_id": "m", "checkpoint": str(copy)},
        {"model_id": "n", "checkpoint": "none@x", "route_prefix": "/n"},
    ]
    path.write_text(yaml.safe_dump({"http": {"port": free_port()}, "models": models[:1]}), encoding="utf-8")
    code, output = run(tmp_path, finetuned.home, *serve_command(path))
    assert code == 1
    assert "changed or damaged after it was written" in " ".join(output.split())
    path.write_text(yaml.safe_dump({"http": {"port": free_port()}, "models": models[1:]}), encoding="utf-8")
    code, output = run(tmp_path, finetuned.home, *serve_command(path))
    assert code == 1
    assert "none@x is not in the registry" in output


def test_replicas_render_the_training_prompts_as_in_training(served: Served, finetuned: Finetuned) -> None:
    count = len(finetuned.manifest.parity)
    assert f"tuned: parity proved, {count} prompts of its training render to the same" in served.command.output
    arguments = ("-m", "tuneyard.cli", "data", "parity", "tiny-support@newest")
    for endpoint in ((), ("--base-url", f"{served.root}/v1")):
        code, output = run(finetuned.folder, finetuned.home, *arguments, *endpoint)
        assert code == 0, output
        assert f"tiny-support/1: {count} training prompts with " in output
        assert " are rendered equally at " in output
    code, output = run(finetuned.folder, finetuned.home, *arguments, "--base-url", f"{served.root}/endless/v1")
    assert code == 1
    assert "a prompt is rendered differently than in training. Row 1, token" in output


def test_a_model_without_parity_is_refused_with_the_first_differing_token(finetuned: Finetuned, tmp_path: Path) -> None:
    """The manifest holds a training prompt that differs in one token from what this installation renders."""
    skewed = Path(shutil.copytree(finetuned.checkpoint, tmp_path / "skewed"))
    manifest = json.loads((skewed / "manifest.json").read_text())
    manifest["parity"][2]["token_ids"][5] += 1
    (skewed / "manifest.json").write_text(json.dumps(manifest))
    config = {"http": {"port": free_port()}, "models": [{"model_id": "skewed", "checkpoint": str(skewed)}]}
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(config))
    code, output = run(tmp_path, finetuned.home, *serve_command(tmp_path / "serve.yaml"))
    assert code == 1
    assert "skewed: a prompt is rendered differently than in training. Row 3, token 5, after" in output
    assert "trained: " in output
    assert "Traceback" not in output
