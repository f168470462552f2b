"""Many models behind one /v1, on real Ray: names, headers, keys, clients that leave, a replica that dies."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.harmony_text import encode_spelled_out
from tests.integration.conftest import Finetuned
from tests.integration.processes import Command, free_port, running
from tuneyard.api.api_keys import KeyStore

pytestmark = pytest.mark.integration
QUESTION: Any = [{"role": "user", "content": "What does error E47 mean?"}]


@dataclass(frozen=True)
class Gateway:
    command: Command
    root: str
    secret: str
    limited: str
    leaver: str
    endless_pid: int
    """Of the replica; looked up while it is idle, for a busy one changes its title."""

    def client(self, secret: str | None = None) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.root}/v1", api_key=secret or self.secret, max_retries=0)

    def endless_requests(self) -> int:
        """Requests in the engine of the model that never ends."""
        return int(httpx.get(f"{self.root}/endless/healthz", timeout=10).json()["requests"])


@pytest.fixture(scope="module")
def gateway(finetuned: Finetuned, tiny_oss: Any) -> Iterator[Gateway]:
    """A finetuned model and a scripted one that never ends; keys are asked for; HAProxy stands before them."""
    port = free_port()
    store = KeyStore(finetuned.home / "api_keys.json")
    _, secret = store.create("all")
    _, limited = store.create("few", tokens_per_minute=120)
    _, leaver = store.create("leaver", tokens_per_minute=60)
    script = [encode_spelled_out(tiny_oss, "<|channel|>final<|message|>on and on ")]
    config = {
        "http": {"port": port, "require_keys": True, "proxy": "haproxy"},
        "gateway": {"num_cpus": 0.2},
        "models": [
            {"model_id": "tuned", "checkpoint": "tiny-support@newest", "replicas": {"num_cpus": 0.5}},
            {
                "model_id": "endless",
                "checkpoint": str(tiny_oss),
                "route_prefix": "/endless",
                "engine": {"engine": "scripted", "script": script, "token_interval_s": 0.01},
                "replicas": {"num_cpus": 0.5, "health_check_period_s": 1},
            },
        ],
    }
    path = finetuned.folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    arguments = ("-m", "serve_apps.deploy", "--config", str(path), "--address", "local")
    with running(finetuned.folder, finetuned.home, *arguments) as command:
        command.wait_for(lambda: "Ctrl-C stops it" in command.output, "deployment")
        (replica,) = command.descendants("ServeReplica:endless")
        yield Gateway(command, f"http://127.0.0.1:{port}", secret, limited, leaver, replica.pid)


def test_models_by_every_name(gateway: Gateway) -> None:
    with gateway.client() as client:
        assert [model.id for model in client.models.list()] == ["endless", "tuned"]
        assert client.models.retrieve("tiny-support/1").id == "tuned"
        asked: Any = {"messages": QUESTION, "max_tokens": 12, "temperature": 0}
        answers = [
            client.chat.completions.create(model=name, **asked)
            for name in ("tuned", "tiny-support/1", "tiny-support@newest")
        ]
        assert len({answer.choices[0].message.model_dump_json() for answer in answers}) == 1
        for unknown in ("other", "tiny-support/9", "tiny-support@production"):
            with pytest.raises(openai.NotFoundError, match="Served: endless, tuned"):
                client.chat.completions.create(model=unknown, **asked)
        with pytest.raises(openai.BadRequestError, match="max_tokens=100000"):
            client.chat.completions.create(model="tuned", messages=QUESTION, max_tokens=100_000, stream=True)


def test_a_stream_is_the_whole_answer(gateway: Gateway) -> None:
    asked: Any = {"model": "tuned", "messages": QUESTION, "max_tokens": 30, "temperature": 0}
    with gateway.client() as client:
        whole = client.chat.completions.create(**asked)
        chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage


def test_headers_lead_back_to_run_and_data(gateway: Gateway, finetuned: Finetuned) -> None:
    body = {"model": "tuned", "messages": QUESTION, "max_tokens": 2}
    headers = {"Authorization": f"Bearer {gateway.secret}", "X-Request-Id": "mine"}
    for stream in (False, True):
        found = httpx.post(
            f"{gateway.root}/v1/chat/completions", json=body | {"stream": stream}, headers=headers, timeout=60
        ).headers
        assert found["x-request-id"] == "mine"
        assert found["x-tuneyard-model-version"] == "tiny-support/1"
        assert found["x-tuneyard-run"] == finetuned.manifest.run_id
        assert finetuned.manifest.dataset is not None
        assert finetuned.manifest.dataset.fingerprint.startswith(found["x-tuneyard-dataset"])


def test_keys_and_their_limits_hold_over_all_models(gateway: Gateway) -> None:
    with gateway.client("ty-wrong") as client, pytest.raises(openai.AuthenticationError):
        client.models.list()
    with gateway.client(gateway.limited) as client:
        used = 0
        with pytest.raises(openai.RateLimitError, match="120 tokens per minute") as refused:
            for _ in range(20):
                answer = client.chat.completions.create(model="tuned", messages=QUESTION, max_tokens=8)
                assert answer.usage is not None
                used += answer.usage.total_tokens
    assert used >= 120
    assert int(refused.value.response.headers["retry-after"]) >= 1


def test_metrics_of_the_gateway_and_of_all_behind_it(gateway: Gateway) -> None:
    with gateway.client() as client:
        client.chat.completions.create(model="tuned", messages=QUESTION, max_tokens=2)
        list(client.chat.completions.create(model="tuned", messages=QUESTION, max_tokens=2, stream=True))
        for unknown in ("made-up-1", "made-up-2"):
            with pytest.raises(openai.NotFoundError):
                client.chat.completions.create(model=unknown, messages=QUESTION)
    page = httpx.get(f"{gateway.root}/metrics", timeout=30).text
    found = {
        (sample.name, *(sample.labels.get(name, "") for name in ("model", "status", "outcome"))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    assert found["tuneyard_gateway_answers_total", "tuned", "200", ""] >= 2
    assert found["tuneyard_gateway_answers_total", "", "404", ""] >= 2
    assert found["tuneyard_gateway_running_requests", "", "", ""] == 0
    assert found["tuneyard_gateway_begin_seconds_count", "tuned", "", ""] >= 2
    assert found["tuneyard_requests_total", "tuned", "", "length"] >= 2
    assert ("tuneyard_requests_total", "endless", "", "stop") in found
    assert "E47" not in page


def test_a_client_that_leaves_ends_its_request(gateway: Gateway) -> None:
    with gateway.client() as client:
        stream = client.chat.completions.create(model="endless", messages=QUESTION, stream=True)
        for _ in range(5):
            next(stream)
        assert gateway.endless_requests() == 1
        stream.close()
    deadline = time.monotonic() + 20
    while gateway.endless_requests():
        assert time.monotonic() < deadline, "the request was left in the engine"
        time.sleep(0.1)


def test_who_leaves_before_a_whole_answer_is_charged_for_it(gateway: Gateway) -> None:
    # 50 tokens at least by then, and the prompt's.
    with gateway.client(gateway.leaver) as client:
        with pytest.raises(openai.APITimeoutError):
            client.chat.completions.create(model="endless", messages=QUESTION, timeout=1.5)
        with pytest.raises(openai.RateLimitError, match="60 tokens per minute"):
            client.chat.completions.create(model="endless", messages=QUESTION, max_tokens=1)
    deadline = time.monotonic() + 20
    while gateway.endless_requests():
        assert time.monotonic() < deadline, "the request was left in the engine"
        time.sleep(0.1)


def test_a_replica_that_dies_in_mid_stream_is_an_error_event(gateway: Gateway) -> None:
    body = {"model": "endless", "messages": QUESTION, "stream": True}
    headers = {"Authorization": f"Bearer {gateway.secret}"}
    events: list[str] = []
    with httpx.stream(
        "POST", f"{gateway.root}/v1/chat/completions", json=body, headers=headers, timeout=60
    ) as response:
        for line in response.iter_lines():
            events += [line] if line else []
            if len(events) == 20:
                os.kill(gateway.endless_pid, signal.SIGKILL)
    assert json.loads(events[-1].removeprefix("data: "))["error"]["type"] == "server_error"
    assert not any("[DONE]" in event for event in events)
    with gateway.client() as client:
        assert client.chat.completions.create(model="tuned", messages=QUESTION, max_tokens=4).usage is not None
        deadline = time.monotonic() + 60
        while True:
            try:
                client.chat.completions.create(model="endless", messages=QUESTION, max_tokens=4)
                break
            except openai.APIError:
                assert time.monotonic() < deadline, "no new replica answered"
                time.sleep(0.5)
