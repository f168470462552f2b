"""The gateway on real Ray: several models behind one /v1, keys and limits, disconnects, a killed replica."""

from __future__ import annotations

import contextlib
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
from tests.integration.slow_client import send_headers_slowly
from tests.otlp_collector import Collector
from tuneyard.api.api_keys import KeyStore
from tuneyard.api.usage_ledger import UsageLedger
from tuneyard.storage.audit_log import AuditLog
from tuneyard.storage.sql.location import SqlLocation

pytestmark = pytest.mark.integration
QUESTION: Any = [{"role": "user", "content": "What does error E47 mean?"}]


@dataclass(frozen=True)
class Gateway:
    """A running deployment with a gateway, and three API keys for it."""

    command: Command
    root: str
    key: str
    """A key without limits."""
    limited_key: str
    """Limited to 120 tokens per minute."""
    disconnecting_key: str
    """Limited to 60 tokens per minute."""
    collector: Collector
    """Receives the traces of the gateway and the replicas."""
    endless_pid: int
    """Process id of the endless model's replica, read while it is idle: a busy replica changes its process title."""

    def client(self, key: str | None = None) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.root}/v1", api_key=key or self.key, max_retries=0)

    def endless_requests(self) -> int:
        """The number of requests in the engine of the endless model."""
        return int(httpx.get(f"{self.root}/endless/healthz", timeout=10).json()["requests"])


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(finetuned: Finetuned, tiny_oss: Any, collector: Collector) -> Iterator[Gateway]:
    """A finetuned model and a scripted one whose answers are endless, behind HAProxy, with API keys required."""
    port = free_port()
    store = KeyStore(finetuned.home / "api_keys.json")
    _, key = store.create("unlimited")
    _, limited_key = store.create("limited", tokens_per_minute=120)
    _, disconnecting_key = store.create("disconnecting", tokens_per_minute=60)
    script = [encode_spelled_out(tiny_oss, "<|channel|>final<|message|>on and on ")]
    config = {
        "http": {"port": port, "require_keys": True, "proxy": "haproxy", "header_limits": {"timeout_s": 3}},
        "gateway": {"num_cpus": 0.2},
        "responses": {"store": True},
        "telemetry": {"otlp_endpoint": collector.url},
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
        root = f"http://127.0.0.1:{port}"
        yield Gateway(command, root, key, limited_key, disconnecting_key, collector, replica.pid)


def test_a_model_answers_to_its_id_version_and_alias(gateway: Gateway) -> None:
    with gateway.client() as client:
        assert [model.id for model in client.models.list()] == ["endless", "tuned"]
        assert client.models.retrieve("tiny-support/1").id == "tuned"
        request: Any = {"messages": QUESTION, "max_tokens": 12, "temperature": 0}
        answers = [
            client.chat.completions.create(model=name, **request)
            for name in ("tuned", "tiny-support/1", "tiny-support@newest")
        ]
        assert len({answer.choices[0].message.model_dump_json() for answer in answers}) == 1
        for unknown in ("other", "tiny-support/9", "tiny-support@production"):
            with pytest.raises(openai.NotFoundError, match="Served: endless, tuned"):
                client.chat.completions.create(model=unknown, **request)
        with pytest.raises(openai.BadRequestError, match="max_tokens=100000"):
            client.chat.completions.create(model="tuned", messages=QUESTION, max_tokens=100_000, stream=True)


def test_a_streamed_answer_equals_the_whole_one(gateway: Gateway) -> None:
    request: Any = {"model": "tuned", "messages": QUESTION, "max_tokens": 30, "temperature": 0}
    with gateway.client() as client:
        whole = client.chat.completions.create(**request)
        chunks = list(client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage


def test_responses_are_answered_stored_and_cancelled(gateway: Gateway) -> None:
    """Each key has its own stored responses, which the gateway reads by itself."""
    with gateway.client() as client, gateway.client(gateway.limited_key) as other:
        request: Any = {"model": "tuned", "max_output_tokens": 16, "temperature": 0}
        first = client.responses.create(input="What does error E47 mean?", **request)
        events = list(client.responses.create(input="And?", previous_response_id=first.id, stream=True, **request))
        last = events[-1]
        assert last.type in ("response.completed", "response.incomplete")
        assert client.responses.retrieve(last.response.id) == last.response
        assert len(list(client.responses.input_items.list(last.response.id))) == 2 + len(first.output)
        with pytest.raises(openai.NotFoundError):
            other.responses.retrieve(first.id)
        client.responses.delete(first.id)
        stream = client.responses.create(model="endless", input="On and on.", stream=True)
        started = next(iter(stream))
        assert started.type == "response.created"
        client.responses.cancel(started.response.id)
        *_, last = stream
        assert last.type == "response.incomplete"
        assert last.response.status == "cancelled"


def test_slow_headers_end_a_connection_to_haproxy(gateway: Gateway) -> None:
    assert send_headers_slowly(gateway.root).startswith(b"HTTP/1.1 408")


def test_a_request_is_one_trace_through_gateway_and_replica(gateway: Gateway) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01", "X-Request-Id": "traced-1"}
    stream = gateway.client().chat.completions.create(
        model="tuned", messages=QUESTION, max_tokens=8, stream=True, extra_headers=headers
    )
    assert list(stream)
    expected = {"POST /v1/chat/completions", "forward", "queue", "/v1/chat/completions", "render prompt", "engine"}
    deadline = time.monotonic() + 60
    while True:
        spans = {span.name: span for span in gateway.collector.spans() if span.trace_id.hex() == trace_id}
        if spans.keys() >= expected:
            break
        assert time.monotonic() < deadline, spans.keys()
        time.sleep(0.2)
    names = {span.span_id: name for name, span in spans.items()}
    parents = {name: names.get(span.parent_span_id) for name, span in spans.items()}
    assert parents["forward"] == "POST /v1/chat/completions"
    assert parents["queue"] == parents["/v1/chat/completions"] == "forward"
    assert parents["engine"] == "/v1/chat/completions"
    about = {item.key: item.value for item in spans["POST /v1/chat/completions"].attributes}
    assert about["tuneyard.request_id"].string_value == "traced-1"
    assert about["tuneyard.key.name"].string_value == "unlimited"
    assert about["gen_ai.usage.output_tokens"].int_value == 8
    assert "E47" not in "".join(map(str, spans.values()))


def test_headers_name_the_version_run_and_dataset(gateway: Gateway, finetuned: Finetuned) -> None:
    body = {"model": "tuned", "messages": QUESTION, "max_tokens": 2}
    headers = {"Authorization": f"Bearer {gateway.key}", "X-Request-Id": "mine"}
    for stream in (False, True):
        answer_headers = httpx.post(
            f"{gateway.root}/v1/chat/completions", json=body | {"stream": stream}, headers=headers, timeout=60
        ).headers
        assert answer_headers["x-request-id"] == "mine"
        assert answer_headers["x-tuneyard-model-version"] == "tiny-support/1"
        assert answer_headers["x-tuneyard-run"] == finetuned.manifest.run_id
        assert finetuned.manifest.dataset is not None
        assert finetuned.manifest.dataset.fingerprint.startswith(answer_headers["x-tuneyard-dataset"])


def test_the_gateway_checks_keys_and_their_limits(gateway: Gateway) -> None:
    with gateway.client("ty-wrong") as client, pytest.raises(openai.AuthenticationError):
        client.models.list()
    with gateway.client(gateway.limited_key) as client:
        used = 0
        with pytest.raises(openai.RateLimitError, match="its limit is 120 per minute") as refused:
            for _ in range(20):
                answer = client.chat.completions.create(model="tuned", messages=QUESTION, max_tokens=8)
                assert answer.usage is not None
                used += answer.usage.total_tokens
    assert used >= 120
    assert int(refused.value.response.headers["retry-after"]) >= 1


def test_metrics_of_the_gateway_and_of_its_models(gateway: Gateway) -> None:
    with gateway.client() as client:
        client.chat.completions.create(model="tuned", messages=QUESTION, max_tokens=2)
        list(client.chat.completions.create(model="tuned", messages=QUESTION, max_tokens=2, stream=True))
        for unknown in ("made-up-1", "made-up-2"):
            with pytest.raises(openai.NotFoundError):
                client.chat.completions.create(model=unknown, messages=QUESTION)
    page = httpx.get(f"{gateway.root}/metrics", timeout=30).text
    samples = {
        (sample.name, *(sample.labels.get(name, "") for name in ("model", "status", "outcome"))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    assert samples["tuneyard_gateway_answers_total", "tuned", "200", ""] >= 2
    assert samples["tuneyard_gateway_answers_total", "", "404", ""] >= 2
    assert samples["tuneyard_gateway_running_requests", "", "", ""] == 0
    assert samples["tuneyard_gateway_begin_seconds_count", "tuned", "", ""] >= 2
    assert samples["tuneyard_requests_total", "tuned", "", "length"] >= 2
    assert ("tuneyard_requests_total", "endless", "", "stop") in samples
    assert "E47" not in page


def test_closing_a_stream_aborts_its_request(gateway: Gateway) -> None:
    with gateway.client() as client:
        stream = client.chat.completions.create(model="endless", messages=QUESTION, stream=True)
        for _ in range(5):
            next(stream)
        assert gateway.endless_requests() == 1
        stream.close()
    deadline = time.monotonic() + 20
    while gateway.endless_requests():
        assert time.monotonic() < deadline, "the request still runs in the engine"
        time.sleep(0.1)


def test_a_client_that_disconnects_before_its_answer_is_charged(gateway: Gateway) -> None:
    # At least 50 tokens are generated before the timeout; with the prompt's that is over the limit.
    with gateway.client(gateway.disconnecting_key) as client:
        with pytest.raises(openai.APITimeoutError):
            client.chat.completions.create(model="endless", messages=QUESTION, timeout=1.5)
        with pytest.raises(openai.RateLimitError, match="its limit is 60 per minute"):
            client.chat.completions.create(model="endless", messages=QUESTION, max_tokens=1)
    deadline = time.monotonic() + 20
    while gateway.endless_requests():
        assert time.monotonic() < deadline, "the request still runs in the engine"
        time.sleep(0.1)


def test_a_replica_killed_during_a_stream_gives_an_error_event(gateway: Gateway) -> None:
    body = {"model": "endless", "messages": QUESTION, "stream": True}
    headers = {"Authorization": f"Bearer {gateway.key}"}
    events: list[str] = []
    with httpx.stream(
        "POST", f"{gateway.root}/v1/chat/completions", json=body, headers=headers, timeout=60
    ) as response:
        for line in response.iter_lines():
            events += [line] if line and not line.startswith(":") else []
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
                assert time.monotonic() < deadline, "no new replica answered within 60 s"
                time.sleep(0.5)


def test_the_usage_of_a_key_and_the_deployment_are_recorded(gateway: Gateway, finetuned: Finetuned) -> None:
    """Through the gateway and at the model's own path; a key made while the deployment runs is held to its budget."""
    key, secret = KeyStore(finetuned.home / "api_keys.json").create("measured", requests_per_month=2)
    ledger = UsageLedger(SqlLocation(file=finetuned.home / "usage.db"))
    request: Any = {"messages": QUESTION, "max_tokens": 4, "temperature": 0}
    with gateway.client(secret) as client, contextlib.closing(ledger):
        used = client.chat.completions.create(model="tuned", **request).usage
        with openai.OpenAI(base_url=f"{gateway.root}/endless/v1", api_key=secret, max_retries=0) as direct:
            direct.chat.completions.create(model="endless", **request)
        deadline = time.monotonic() + 120
        while len(rows := {row.model: row.counts for row in ledger.rows(key=key.id)}) < 2:
            assert time.monotonic() < deadline, rows
            time.sleep(0.2)
        assert used is not None
        assert rows["tuned"].requests == rows["endless"].requests == 1
        assert (rows["tuned"].prompt_tokens, rows["tuned"].completion_tokens) == (
            used.prompt_tokens,
            used.completion_tokens,
        )
        while True:
            try:
                client.chat.completions.create(model="tuned", **request)
            except openai.RateLimitError as e:
                assert e.code == "insufficient_quota"
                break
            assert time.monotonic() < deadline, "the gateway does not see what the replica counted"
            time.sleep(0.5)
    admin_key = (finetuned.home / "admin_key").read_text().strip()
    body = {"model": "endless", "messages": QUESTION}
    headers = {"Authorization": f"Bearer {admin_key}"}
    url = f"{gateway.root}/endless/v1/chat/completions/render"
    assert httpx.post(url, json=body, headers=headers, timeout=60).status_code == 200
    events = list(AuditLog(finetuned.home / "audit.jsonl").events())
    assert any(event.action == "deployment.start" and "tuned" in event.target for event in events)
    assert any(event.action == "alias.move" and event.target == "tiny-support@newest" for event in events)
    assert any(event.action == "prompt.render" and event.actor == "admin key" for event in events)
