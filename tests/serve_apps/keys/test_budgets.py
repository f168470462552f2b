"""A key is held to its budgets of the month, in all replicas, and its usage is what OpenAI's usage objects say."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_apps.api.routes import ApiOptions, create_api
from serve_apps.engine_wrappers.token_charge import ChargedEngine
from serve_apps.keys.counting import KeyCounting
from serve_apps.keys.key_gate import KeyGate
from serve_apps.keys.metrics import KeyMetrics
from serve_apps.keys.usage_recorder import UsageRecorder
from tests.serve_apps.api_client import ANSWER, CHAT, completion
from tests.serve_apps.conftest import ModelFactory
from tuneyard.api.api_keys import KeyStore
from tuneyard.api.usage_counts import UsageCounts
from tuneyard.api.usage_ledger import UsageLedger
from tuneyard.storage.sql.location import SqlLocation


class Replica:
    """The API of one replica, with the keys and the ledger that all replicas share."""

    def __init__(self, make_model: ModelFactory, folder: Path, interval_s: float = 3600) -> None:
        self.ledger = UsageLedger(SqlLocation(file=folder / "usage.db"))
        self.usage = UsageRecorder(self.ledger, interval_s, KeyMetrics())
        model = make_model(ANSWER, token_interval_s=0.001)
        model.engine = ChargedEngine(model.engine)
        self.gate = KeyGate(KeyStore(folder / "api_keys.json"), counting=KeyCounting(self.usage))
        api = create_api(model, ApiOptions(gate=self.gate))
        transport = httpx.ASGITransport(api, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://test")

    async def ask(self, secret: str, path: str = "/v1/chat/completions", **more: Any) -> httpx.Response:
        body = CHAT if path == "/v1/chat/completions" else {}
        return await self.client.post(path, json=body | more, headers={"Authorization": f"Bearer {secret}"})


@pytest.fixture
async def replica(make_model: ModelFactory, tmp_path: Path) -> AsyncIterator[Replica]:
    replica = Replica(make_model, tmp_path)
    async with replica.client, replica.gate.running():
        yield replica


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "api_keys.json")


async def test_the_usage_is_that_of_the_answers(replica: Replica, store: KeyStore) -> None:
    key, secret = store.create("one")
    expected = UsageCounts()
    for path, body in (
        ("/v1/chat/completions", {}),
        ("/v1/chat/completions", {"n": 2}),
        ("/v1/completions", completion()),
        ("/v1/responses", {"model": "tiny", "input": "hi"}),
    ):
        usage = (await replica.ask(secret, path, **body)).json()["usage"]
        details = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
        prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
        answer = usage.get("completion_tokens", usage.get("output_tokens"))
        expected += UsageCounts(1, prompt, 0, answer, details["reasoning_tokens"])
    streamed = await replica.ask(secret, stream=True, stream_options={"include_usage": True})
    prompt, answer, reasoning = (
        int(re.findall(rf'"{name}":(\d+)', streamed.text)[-1])
        for name in ("prompt_tokens", "completion_tokens", "reasoning_tokens")
    )
    expected += UsageCounts(1, prompt, 0, answer, reasoning)
    tokenized = (await replica.ask(secret, "/tokenize", model="tiny", prompt="some words")).json()
    expected += UsageCounts(1, tokenized["count"])
    assert reasoning > 0
    assert replica.usage.of_month(key) == expected
    await replica.usage.write()
    (row,) = replica.ledger.rows()
    assert (row.key_id, row.key_name, row.model, row.counts) == (key.id, "one", "tiny", expected)


async def test_a_request_that_is_invalid_counts_without_a_model(replica: Replica, store: KeyStore) -> None:
    key, secret = store.create("one")
    assert (await replica.ask(secret, messages=[])).status_code == 400
    assert (await replica.ask("ty-unknown")).status_code == 401
    await replica.usage.write()
    assert [(row.key_id, row.model, row.counts) for row in replica.ledger.rows()] == [(key.id, "", UsageCounts(1))]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {}),
        ("/v1/completions", completion()),
        ("/v1/responses", {"input": "hi"}),
        ("/tokenize", {"prompt": "some words"}),
        ("/detokenize", {"tokens": [1]}),
    ],
)
async def test_names_that_a_client_makes_up_get_no_rows(
    replica: Replica, store: KeyStore, path: str, body: dict[str, Any]
) -> None:
    key, secret = store.create("one")
    for number in range(3):
        answer = await replica.ask(secret, path, **body | {"model": f"made-up-{number}"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    await replica.usage.write()
    assert [(row.key_id, row.model, row.counts) for row in replica.ledger.rows()] == [(key.id, "", UsageCounts(3))]


async def test_a_budget_of_tokens(replica: Replica, store: KeyStore) -> None:
    _, secret = store.create("small", tokens_per_month=200)
    used = 0
    while (answer := await replica.ask(secret, max_tokens=40)).status_code == 200:
        used += answer.json()["usage"]["total_tokens"]
        left = answer.headers
        assert left["x-tuneyard-budget-limit-tokens"] == "200"
        assert left["x-tuneyard-budget-remaining-tokens"] == str(max(0, 200 - used))
    now = datetime.datetime.now(datetime.UTC)
    renewal = datetime.datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=datetime.UTC)
    assert left["x-tuneyard-budget-reset"] == f"{renewal:%Y-%m-%dT00:00:00Z}"
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"], error["param"]) == (
        429,
        "insufficient_quota",
        "insufficient_quota",
        None,
    )
    assert error["message"] == (
        f"This key used {used:,} tokens this month; its budget is 200 per month. The budget renews at "
        f"{renewal:%Y-%m-%d} 00:00 UTC. An administrator can raise it: tuneyard keys update."
    )
    assert answer.headers["x-should-retry"] == "false"
    assert 0 <= (renewal - now).total_seconds() - int(answer.headers["retry-after"]) + 5 <= 10


async def test_a_raised_budget_holds_at_once(replica: Replica, store: KeyStore) -> None:
    key, secret = store.create("small", requests_per_month=1)
    assert [(await replica.ask(secret)).status_code for _ in range(2)] == [200, 429]
    store.update(key.id, {"requests_per_month": 2})
    assert [(await replica.ask(secret)).status_code for _ in range(2)] == [200, 429]
    store.update(key.id, {"requests_per_month": None})
    assert (await replica.ask(secret)).status_code == 200


async def test_a_budget_of_requests_counts_invalid_ones_and_not_those_it_refuses(
    replica: Replica, store: KeyStore
) -> None:
    _, secret = store.create("few", requests_per_month=3)
    answers = [await replica.ask(secret, messages=[]), *[await replica.ask(secret) for _ in range(4)]]
    assert [answer.status_code for answer in answers] == [400, 200, 200, 429, 429]
    assert answers[1].headers["x-tuneyard-budget-remaining-requests"] == "1"
    for answer in answers[3:]:
        assert "This key used 3 requests this month; its budget is 3 per month." in answer.json()["error"]["message"]


@pytest.mark.parametrize("limits", [{"requests_per_month": 5}, {"tokens_per_month": 200}])
async def test_requests_at_once_stay_within_the_budget(
    replica: Replica, store: KeyStore, limits: dict[str, int]
) -> None:
    """Forty at once may not all pass because none is part of the usage yet."""
    _, secret = store.create("small", **limits)
    answers = await asyncio.gather(*(replica.ask(secret, max_tokens=200) for _ in range(40)))
    assert sum(answer.status_code == 200 for answer in answers) == (5 if "requests_per_month" in limits else 1)
    assert {answer.status_code for answer in answers} == {200, 429}


async def test_a_replica_that_starts_knows_what_was_used(make_model: ModelFactory, tmp_path: Path) -> None:
    _, secret = KeyStore(tmp_path / "api_keys.json").create("few", requests_per_month=2)
    for status in (200, 200, 429):
        replica = Replica(make_model, tmp_path)
        async with replica.client, replica.gate.running():
            assert (await replica.ask(secret)).status_code == status


async def test_a_replica_sees_the_usage_of_another(make_model: ModelFactory, tmp_path: Path) -> None:
    _, secret = KeyStore(tmp_path / "api_keys.json").create("few", requests_per_month=2)
    first, second = (Replica(make_model, tmp_path, interval_s=0.05) for _ in range(2))
    async with contextlib.AsyncExitStack() as stack:
        for replica in (first, second):
            await stack.enter_async_context(replica.client)
            await stack.enter_async_context(replica.gate.running())
        assert [(await first.ask(secret)).status_code for _ in range(2)] == [200, 200]
        key = KeyStore(tmp_path / "api_keys.json").find(secret)
        assert key is not None
        for _ in range(600):
            if second.usage.of_month(key).requests == 2:
                break
            await asyncio.sleep(0.05)
        assert (await second.ask(secret)).status_code == 429


async def test_a_key_with_a_budget_is_refused_where_usage_is_not_kept(
    make_model: ModelFactory, store: KeyStore
) -> None:
    _, secret = store.create("small", tokens_per_month=200)
    _, plain = store.create("plain")
    api = create_api(make_model(ANSWER), ApiOptions(gate=KeyGate(store)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://test") as client:
        for given, status in ((secret, 403), (plain, 200)):
            answer = await client.post("/v1/chat/completions", json=CHAT, headers={"Authorization": f"Bearer {given}"})
            assert answer.status_code == status
            assert status == 200 or answer.json()["error"]["code"] == "budget_not_kept"
