"""Completions, tokens, models, health, metrics, headers and the OpenAPI document, over the transformers engine."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import transformers
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from serve_apps.api.chat_service import ChatService
from serve_apps.api.routes import ApiOptions, create_api
from serve_apps.engines.engine_factory import create_engine
from serve_apps.gateway.gateway_metrics import GatewayMetrics
from serve_apps.http_front.http_plumbing import MAX_BODY_BYTES
from serve_apps.metrics.exposition import as_text
from serve_apps.metrics.measured_engine import MeasuredEngine
from tests.serve_apps.api.test_routes import ASK, client_of
from tests.serve_apps.conftest import ServiceFactory
from tuneyard.configs.serve import EngineConfig
from tuneyard.harmony.codec import CodecSettings, HarmonyCodec

TEXT = "What does error E47 mean?"


@pytest.fixture
async def client(tiny_oss: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The whole service in this process, on tiny-oss-random."""
    engine = MeasuredEngine(create_engine(EngineConfig(kv_cache_tokens=4096), tiny_oss), "tiny", "tiny/1")
    codec = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())
    await engine.start()
    service = ChatService(engine, codec, "tiny", "0123456789abcdef")
    api = create_api(lambda: service, ApiOptions(metrics=engine.metrics, headers={"X-Tuneyard-Run": "r1"}))
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client:
        yield client
    await engine.shutdown()


def ask(**more: Any) -> dict[str, Any]:
    return {"model": "tiny", "prompt": TEXT, "max_tokens": 12, "temperature": 0} | more


async def post(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def test_a_completion_is_transformers_own(client: httpx.AsyncClient, tiny_oss: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(
        tiny_oss, dtype=torch.float32, attn_implementation="eager"
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_oss)
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    expected = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    by_text = await post(client, "/v1/completions", ask())
    assert by_text["choices"][0]["text"] == expected
    assert by_text["usage"]["prompt_tokens"] == ids.shape[1]
    by_ids = await post(client, "/v1/completions", ask(prompt=ids[0].tolist()))
    assert by_ids["choices"] == by_text["choices"]


async def test_a_streamed_completion_is_the_same(client: httpx.AsyncClient) -> None:
    body = ask(n=2, seed=5, temperature=1.5, logprobs=2, max_tokens=16)
    whole = await post(client, "/v1/completions", body)
    response = await client.post(
        "/v1/completions", json=body | {"stream": True, "stream_options": {"include_usage": True}}
    )
    events = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    for index in (0, 1):
        pieces = [c for chunk in chunks for c in chunk["choices"] if c["index"] == index]
        assert "".join(piece["text"] for piece in pieces) == whole["choices"][index]["text"]
        tokens = [token for piece in pieces for token in piece["logprobs"]["tokens"]]
        assert tokens == whole["choices"][index]["logprobs"]["tokens"]
        assert pieces[-1]["finish_reason"] == whole["choices"][index]["finish_reason"]
    assert chunks[-1]["usage"] == whole["usage"]
    assert whole["choices"][0]["text"] != whole["choices"][1]["text"]


async def test_a_completion_stops_before_a_string(client: httpx.AsyncClient) -> None:
    text = (await post(client, "/v1/completions", ask()))["choices"][0]["text"]
    cut = await post(client, "/v1/completions", ask(stop=text[4:7]))
    assert cut["choices"][0] == {
        "index": 0,
        "text": text[: text.index(text[4:7])],
        "finish_reason": "stop",
        "logprobs": None,
    }


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": [20, 5000]}, None),
        ({"prompt": "word " * 5000}, "prompt"),
        ({"echo": True}, "echo"),
        ({"best_of": 3}, "best_of"),
        ({"suffix": "x"}, "suffix"),
        ({"logprobs": 9}, "logprobs"),
        ({"model": "other"}, "model"),
    ],
)
async def test_completions_refuse_by_name(client: httpx.AsyncClient, change: dict[str, Any], param: str) -> None:
    response = await client.post("/v1/completions", json=ask(**change))
    assert response.status_code in (400, 404)
    assert response.json()["error"]["param"] == param


async def test_tokens_there_and_back(client: httpx.AsyncClient) -> None:
    text = "Grüße <|end|> 42"
    found = await post(client, "/tokenize", {"model": "tiny", "prompt": text})
    assert found["count"] == len(found["tokens"])
    assert found["max_model_len"] == 4096
    back = await post(client, "/detokenize", {"model": "tiny", "tokens": found["tokens"]})
    assert back["prompt"] == text
    chat = await post(client, "/tokenize", {"model": "tiny", "messages": ASK["messages"]})
    usage = (await post(client, "/v1/chat/completions", ASK | {"max_tokens": 1}))["usage"]
    assert chat["count"] == usage["prompt_tokens"]
    for body, param in (({"tokens": [99999]}, "tokens"), ({"tokens": "x"}, "tokens")):
        refused = await client.post("/detokenize", json={"model": "tiny"} | body)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    for body in ({}, {"prompt": "x", "reasoning_effort": "low"}):
        refused = await client.post("/tokenize", json={"model": "tiny"} | body)
        assert refused.json()["error"]["param"] == "prompt"


async def test_models_health_and_version(client: httpx.AsyncClient) -> None:
    (card,) = (await client.get("/v1/models")).json()["data"]
    assert (await client.get("/v1/models/tiny")).json() == card
    assert (await client.get("/v1/models/org/other")).json()["error"]["code"] == "model_not_found"
    assert (await client.get("/readyz")).json()["status"] == "ok"
    assert (await client.get("/version")).json()["version"]


async def test_metrics_count_what_happened(client: httpx.AsyncClient) -> None:
    await post(client, "/v1/completions", ask())
    await client.post("/v1/completions", json=ask(prompt=[5000]))
    text = (await client.get("/metrics")).text
    samples = {
        (sample.name, sample.labels.get("outcome")): sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["tuneyard_completion_tokens_total", None].value == 12
    assert samples["tuneyard_requests_total", "length"].value == 1
    assert samples["tuneyard_requests_total", "refused"].value == 1
    assert samples["tuneyard_first_token_seconds_count", None].value == 1
    assert samples["tuneyard_running_requests", None].value == 0
    assert samples["tuneyard_prompt_tokens_total", None].labels == {"model": "tiny", "version": "tiny/1", "replica": ""}
    assert TEXT not in text


async def test_metrics_know_a_stop_string_and_count_a_prompt_once(client: httpx.AsyncClient) -> None:
    text = (await post(client, "/v1/completions", ask()))["choices"][0]["text"]
    await post(client, "/v1/completions", ask(stop=text[2:5], logprobs=1))
    usage = (await post(client, "/v1/completions", ask(n=3)))["usage"]
    metrics = (await client.get("/metrics")).text
    counted = {
        outcome: float(re.search(rf'outcome="{outcome}"[^}}]*}} (\S+)', metrics)[1])  # type: ignore[index]
        for outcome in ("abort", "cancelled", "length")
    }
    assert counted == {"abort": 1, "cancelled": 0, "length": 4}
    found = re.search(r"tuneyard_prompt_tokens_total{[^}]*} (\S+)", metrics)
    assert found is not None
    assert float(found[1]) == 3 * usage["prompt_tokens"]


async def test_an_answer_that_takes_too_long_ends_with_a_504(make_service: ServiceFactory) -> None:
    slow = make_service(*[f"<|channel|>final<|message|>{TEXT}<|return|>"] * 2, token_interval_s=0.2)
    slow._engine = engine = MeasuredEngine(slow.engine, "tiny", "tiny/1", timeout_s=0.5)
    async with client_of(slow) as client:
        whole = await client.post("/v1/chat/completions", json=ASK)
        assert (whole.status_code, whole.json()["error"]["type"]) == (504, "timeout_error")
        assert "after 0.5 s (answer_timeout_s)" in whole.json()["error"]["message"]
        asking = asyncio.create_task(client.post("/v1/chat/completions", json=ASK | {"stream": True}))
        while not engine.waiting:
            await asyncio.sleep(0.01)
        assert 'waiting_requests{model="tiny",replica="",version="tiny/1"} 1.0' in as_text(await engine.metrics())
        streamed = (await asking).text
    assert engine.waiting == 0
    assert "timeout_error" in streamed
    assert "[DONE]" not in streamed
    assert engine.stats().requests == 0
    assert 'outcome="timeout"' in as_text(await engine.metrics())


async def test_metrics_of_two_replicas_are_one_page(make_service: ServiceFactory) -> None:
    async def metrics_of(replica: str, requests: int) -> list[Metric]:
        service = make_service("<|channel|>final<|message|>hi<|return|>")
        service._engine = engine = MeasuredEngine(service.engine, "tiny", "tiny/1", replica=replica)
        async with client_of(service) as client:
            for _ in range(requests):
                assert (await client.post("/v1/chat/completions", json=ASK)).status_code == 200
        return await engine.metrics()

    page = as_text([*await metrics_of("a", 1), *await metrics_of("b", 2)])
    families = {family.name: family for family in text_string_to_metric_families(page)}
    assert page.count("# TYPE tuneyard_requests_total counter") == 1
    ended = {
        sample.labels["replica"]: sample.value
        for sample in families["tuneyard_requests"].samples
        if sample.labels.get("outcome") == "stop" and sample.name.endswith("_total")
    }
    assert ended == {"a": 1, "b": 2}


async def test_the_dashboard_asks_for_metrics_that_there_are(client: httpx.AsyncClient) -> None:
    await post(client, "/v1/completions", ask())
    gateway = GatewayMetrics("r1")
    with gateway.request() as counting:
        counting.began()
        counting.close("200")
    pages = (await client.get("/metrics")).text, as_text(await gateway.collect())
    there = {name for page in pages for name in re.findall(r"^(tuneyard_\w+)\{", page, re.MULTILINE)}
    dashboard = Path("platform/dashboards/serving.json").read_text()
    asked = set(re.findall(r"tuneyard_\w+", dashboard))
    assert len(asked) >= 7
    assert asked <= there
    names = {target["expr"] for panel in json.loads(dashboard)["panels"] for target in panel["targets"]}
    assert len(names) >= 9


async def test_headers_lead_back(client: httpx.AsyncClient) -> None:
    asked = await client.get("/v1/models", headers={"X-Request-Id": "abc-123"})
    assert (asked.headers["x-request-id"], asked.headers["x-tuneyard-run"]) == ("abc-123", "r1")
    made = await client.post("/v1/chat/completions", json={}, headers={"X-Request-Id": "no\ttabs"})
    assert len(made.headers["x-request-id"]) == 32
    assert made.status_code == 400


async def test_a_huge_body_is_refused_before_it_is_read_in(client: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 4 * MAX_BODY_BYTES:
            sent += 2**20
            yield b" " * 2**20

    refused = await client.post("/v1/chat/completions", content=endless())
    assert (refused.status_code, refused.json()["error"]["message"]) == (413, "The request body is larger than 16 MiB.")


async def test_a_dead_engine_is_not_ready(make_service: ServiceFactory) -> None:
    async with client_of(make_service("<|channel|>final<|message|>x ", crash_after_tokens=2)) as client:
        await client.post("/v1/chat/completions", json=ASK)
        assert (await client.get("/readyz")).status_code == 503
