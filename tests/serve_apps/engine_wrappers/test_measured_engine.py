"""The metrics count what the API did."""

from __future__ import annotations

import re

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.serve_apps.api_client import TEXT, completion, post


async def test_metrics_count_what_happened(tiny_client: httpx.AsyncClient) -> None:
    await post(tiny_client, "/v1/completions", completion())
    await tiny_client.post("/v1/completions", json=completion(prompt=[5000]))
    text = (await tiny_client.get("/metrics")).text
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


async def test_metrics_know_a_stop_string_and_count_a_prompt_once(tiny_client: httpx.AsyncClient) -> None:
    text = (await post(tiny_client, "/v1/completions", completion()))["choices"][0]["text"]
    await post(tiny_client, "/v1/completions", completion(stop=text[2:5], logprobs=1))
    usage = (await post(tiny_client, "/v1/completions", completion(n=3)))["usage"]
    metrics = (await tiny_client.get("/metrics")).text
    counted = {
        outcome: float(re.search(rf'outcome="{outcome}"[^}}]*}} (\S+)', metrics)[1])  # type: ignore[index]
        for outcome in ("abort", "cancelled", "length")
    }
    assert counted == {"abort": 1, "cancelled": 0, "length": 4}
    found = re.search(r"tuneyard_prompt_tokens_total{[^}]*} (\S+)", metrics)
    assert found is not None
    assert float(found[1]) == 3 * usage["prompt_tokens"]
