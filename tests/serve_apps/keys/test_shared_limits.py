"""Replicas share a key's limits through a real Redis, and hold it to them alone while Redis is gone."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_apps.api.routes import ApiOptions, create_api
from serve_apps.engine_wrappers.token_charge import ChargedEngine
from serve_apps.keys import shared_limits
from serve_apps.keys.counting import open_counting
from serve_apps.keys.key_gate import KeyGate
from serve_apps.keys.metrics import KeyMetrics
from serve_apps.keys.shared_limits import SharedLimits
from tests.redis_server import PASSWORD, RedisServer
from tests.serve_apps.api_client import ANSWER, CHAT
from tests.serve_apps.conftest import ModelFactory
from tuneyard.api.api_keys import ApiKey, KeyStore
from tuneyard.configs.limits.key_counting import KeyCountingConfig
from tuneyard.core.errors import ConfigError, RateLimitError


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loaded machine may take longer for an answer than a request should wait."""
    monkeypatch.setattr(shared_limits, "TIMEOUT_S", 10.0)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


class Replica:
    """The API of one replica. Each has its own connection to Redis."""

    def __init__(self, make_model: ModelFactory, store: KeyStore, server: RedisServer) -> None:
        config = KeyCountingConfig(rate_limits_store=server.url, rate_limits_password_file=server.password_file)
        metrics = KeyMetrics("r")
        self.gate = KeyGate(store, counting=open_counting(config, None, metrics), metrics=metrics)
        model = make_model(ANSWER, token_interval_s=0.001)
        model.engine = ChargedEngine(model.engine)
        transport = httpx.ASGITransport(create_api(model, ApiOptions(gate=self.gate)), raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://test")

    async def ask(self, secret: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {secret}"}
        return await self.client.post("/v1/chat/completions", json=CHAT | more, headers=headers)

    def metric(self, name: str) -> float:
        samples = {sample.name: sample.value for family in self.gate.collect() for sample in family.samples}
        return samples[f"tuneyard_key_{name}"]

    async def wait_until_up(self, is_up: bool) -> None:
        for _ in range(600):
            if self.metric("shared_limits_up") == is_up:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"shared_limits_up is not {is_up}")


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "api_keys.json")


@pytest.fixture
async def replicas(
    make_model: ModelFactory, store: KeyStore, redis_server: RedisServer
) -> AsyncIterator[tuple[Replica, Replica]]:
    pair = (Replica(make_model, store, redis_server), Replica(make_model, store, redis_server))
    async with contextlib.AsyncExitStack() as stack:
        for replica in pair:
            await stack.enter_async_context(replica.client)
            await stack.enter_async_context(replica.gate.running())
        yield pair


async def test_replicas_share_the_requests_per_minute(replicas: tuple[Replica, Replica], store: KeyStore) -> None:
    first, second = replicas
    _, secret = store.create("five", requests_per_minute=5)
    answers = await asyncio.gather(*(replica.ask(secret) for replica in replicas for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 35
    refused = await second.ask(secret)
    expected = "This key used 5 requests, on all replicas together; its limit is 5 per minute. Retry after "
    assert refused.json()["error"]["message"].startswith(expected)
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    _, other = store.create("two", requests_per_minute=2)
    headers = [(await replica.ask(other)).headers for replica in (first, second)]
    assert [part["x-ratelimit-remaining-requests"] for part in headers] == ["1", "0"]


async def test_replicas_share_what_is_reserved(replicas: tuple[Replica, Replica], store: KeyStore) -> None:
    _, secret = store.create("small", tokens_per_minute=50)
    answers = await asyncio.gather(*(replica.ask(secret, max_tokens=50) for replica in replicas for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] + [429] * 39


async def test_what_was_reserved_and_not_used_is_given_back_to_all(
    replicas: tuple[Replica, Replica], store: KeyStore
) -> None:
    first, second = replicas
    _, secret = store.create("middle", tokens_per_minute=2000)
    used = 0
    for number, replica in enumerate((first, second, first, second)):
        answer = await replica.ask(secret, max_tokens=1900, stream=number == 2)
        assert answer.status_code == 200, answer.text
        if number != 2:
            used = answer.json()["usage"]["total_tokens"]
    stored = await _counter(first, "middle", store)
    assert stored == 4 * used
    refused_after = 2000 // used
    answers = [await second.ask(secret, max_tokens=1) for _ in range(2)]
    assert refused_after > 6
    assert [answer.status_code for answer in answers] == [200, 200]


async def test_without_redis_each_replica_holds_a_key_to_its_limits_alone(
    replicas: tuple[Replica, Replica], store: KeyStore, redis_server: RedisServer
) -> None:
    first, second = replicas
    _, secret = store.create("two", requests_per_minute=2, tokens_per_minute=10_000)
    assert [(await replica.ask(secret)).status_code for replica in (first, second, first)] == [200, 200, 429]
    assert first.metric("shared_limits_up") == 1
    redis_server.stop()
    _, other = store.create("again", requests_per_minute=2, tokens_per_minute=10_000)
    for replica in replicas:
        assert [(await replica.ask(other)).status_code for _ in range(3)] == [200, 200, 429]
        assert replica.metric("shared_limits_up") == 0
        assert replica.metric("local_limits_total") >= 1
    redis_server.start()
    for replica in replicas:
        await replica.wait_until_up(True)
    _, third = store.create("shared again", requests_per_minute=2)
    assert [(await replica.ask(third)).status_code for replica in (first, second, first)] == [200, 200, 429]


async def test_a_redis_that_hangs_holds_up_one_request_at_most(
    replicas: tuple[Replica, Replica], store: KeyStore, redis_server: RedisServer
) -> None:
    first, _ = replicas
    _, secret = store.create("many", requests_per_minute=100)
    redis_server.pause()
    try:
        assert (await first.ask(secret)).status_code == 200
        assert first.metric("shared_limits_up") == 0
        before = first.metric("local_limits_total")
        assert [(await first.ask(secret)).status_code for _ in range(20)] == [200] * 20
        assert first.metric("local_limits_total") == before + 20, "none of them asked Redis"
    finally:
        redis_server.resume()
    await first.wait_until_up(True)


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


async def test_an_hour_holds_a_key_to_the_average(redis_server: RedisServer) -> None:
    """One request may take more than a minute's tokens; then the next minutes have none left."""
    clock = Clock(time.time())
    limits = SharedLimits(redis_server.url, PASSWORD, KeyMetrics(), clock)
    key = ApiKey(id="k", name="n", sha256="0", created_at=datetime.datetime.now(datetime.UTC), tokens_per_minute=10)
    async with limits.running():
        claim = await limits.reserve(key, 1000)
        assert claim is not None
        limits.charge(claim, 700)
        limits.release(claim)
        await limits.settle()
        with pytest.raises(RateLimitError, match=r"700 tokens .* its limit is 10 per minute"):
            await limits.reserve(key, 1)
        await limits._storage.clear("LIMITER/tokens/k/10/1/minute")
        with pytest.raises(RateLimitError, match=r"700 tokens .* its limit is 600 per hour"):
            await limits.reserve(key, 1)
        # What was taken of the minute is given back, because the hour refused.
        assert await limits._storage.get("LIMITER/tokens/k/10/1/minute") == 0


async def test_tokens_after_the_window_of_their_reservation_count_in_the_next(redis_server: RedisServer) -> None:
    clock = Clock(time.time())
    limits = SharedLimits(redis_server.url, PASSWORD, KeyMetrics(), clock)
    key = ApiKey(id="k", name="n", sha256="0", created_at=datetime.datetime.now(datetime.UTC), tokens_per_minute=100)
    async with limits.running():
        claim = await limits.reserve(key, 80)
        assert claim is not None
        limits.charge(claim, 30)
        await limits._storage.clear("LIMITER/tokens/k/100/1/minute")  # as if the minute were over, in Redis
        clock.now += 61  # and here
        limits.charge(claim, 25)
        limits.release(claim)
        await limits.settle()
        assert await limits._storage.get("LIMITER/tokens/k/100/1/minute") == 25
        assert await limits._storage.get("LIMITER/tokens/k/6000/1/hour") == 55


@pytest.fixture
async def limits(redis_server: RedisServer) -> AsyncIterator[SharedLimits]:
    limits = SharedLimits(redis_server.url, PASSWORD, KeyMetrics())
    async with limits.running():
        yield limits


def key_of(name: str, tokens_per_minute: int = 100) -> ApiKey:
    now = datetime.datetime.now(datetime.UTC)
    return ApiKey(id=name, name=name, sha256=name, created_at=now, tokens_per_minute=tokens_per_minute)


@pytest.mark.parametrize("tokens", [2**62, 2**64, 10**30])
async def test_a_request_for_any_number_of_tokens_does_not_end_the_sharing(limits: SharedLimits, tokens: int) -> None:
    """Redis counts in 64 bits: it would fail, and count as a Redis that does not answer."""
    claim = await limits.reserve(key_of("k"), tokens)
    assert claim is not None
    for _ in range(3):
        with pytest.raises(RateLimitError, match=r"100 tokens .* its limit is 100 per minute"):
            await limits.reserve(key_of("k"), tokens)
    limits.charge(claim, 30)
    limits.release(claim)
    await limits.settle()
    assert await limits._storage.get("LIMITER/tokens/k/100/1/minute") == 30
    assert await limits._storage.get("LIMITER/tokens/k/6000/1/hour") == 30


async def test_a_client_that_leaves_while_its_tokens_are_reserved_keeps_none(limits: SharedLimits) -> None:
    reserve, started = limits._reserve, asyncio.Event()

    async def slow(item: Any, key: ApiKey, tokens: int) -> Any:
        if item.get_expiry() == 3600:
            started.set()
            await asyncio.sleep(60)
        return await reserve(item, key, tokens)

    limits._reserve = slow  # type: ignore[method-assign]
    asking = asyncio.create_task(limits.reserve(key_of("k"), 80))
    await started.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await limits.settle()
    assert await limits._storage.get("LIMITER/tokens/k/100/1/minute") == 0


async def test_a_client_that_leaves_while_it_gives_back_loses_no_other_count(limits: SharedLimits) -> None:
    claims = [await limits.reserve(key_of(f"k{number}"), 80) for number in range(5)]
    for claim in claims:
        assert claim is not None
        limits.release(claim)
    increment, started = limits._storage.incr, asyncio.Event()

    async def hang(*_: Any) -> int:
        started.set()
        await asyncio.sleep(60)
        raise AssertionError

    limits._storage.incr = hang  # type: ignore[assignment,method-assign]
    settling = asyncio.create_task(limits.settle())
    await started.wait()
    settling.cancel()
    await asyncio.gather(settling, return_exceptions=True)
    limits._storage.incr = increment  # type: ignore[method-assign]
    await limits.settle()
    counts = [await limits._storage.get(f"LIMITER/tokens/k{number}/100/1/minute") for number in range(5)]
    assert sorted(counts)[:4] == [0] * 4, "only that of the count that was being sent is open"


@pytest.mark.parametrize("content", ["", "\n", None])
def test_a_password_that_cannot_be_read_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_text(content)
    config = KeyCountingConfig(rate_limits_store="redis://127.0.0.1:1", rate_limits_password_file=path)
    with pytest.raises(ConfigError, match=r"rate_limits_password_file: .*password"):
        open_counting(config, None, KeyMetrics())


async def _counter(replica: Replica, name: str, store: KeyStore) -> int:
    """The tokens that Redis holds for the key, for this minute."""
    shared = replica.gate._counting.shared
    assert shared is not None
    (key,) = (key for key in store.list_keys() if key.name == name)
    return await shared._storage.get(f"LIMITER/tokens/{key.id}/{key.tokens_per_minute}/1/minute")
