"""Requests are admitted by API key, model and limits."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import math
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.api.routes import ApiOptions, create_api
from serve_apps.engine_wrappers.token_charge import ChargedEngine
from serve_apps.http_front.admission import reserve_tokens
from serve_apps.keys.account import bucket_error
from serve_apps.keys.grant import Grant
from serve_apps.keys.key_gate import KeyGate
from tests.serve_apps.api_client import ANSWER, CHAT
from tests.serve_apps.conftest import ModelFactory
from tuneyard.api.api_keys import KeyStore
from tuneyard.api.usage_counts import UsageCounts
from tuneyard.core.errors import RateLimitError


class Clock:
    """A clock that the test sets, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "api_keys.json")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def client(make_model: ModelFactory, store: KeyStore, clock: Clock) -> AsyncIterator[httpx.AsyncClient]:
    model = make_model(ANSWER, token_interval_s=0.002)
    model.engine = ChargedEngine(model.engine)
    api = create_api(model, ApiOptions(gate=KeyGate(store, clock)))
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


async def ask(client: httpx.AsyncClient, secret: str, **more: Any) -> httpx.Response:
    return await client.post("/v1/chat/completions", json=CHAT | more, headers=bearer(secret))


async def test_numbers_of_any_length_are_reserved_and_named(store: KeyStore) -> None:
    """The gateway reserves what a body says before a replica has checked it."""
    _, secret = store.create("one", tokens_per_minute=100)
    gate = KeyGate(store)
    request: Any = SimpleNamespace(state=SimpleNamespace(body_bytes=8000))
    grant = await gate.admit(f"Bearer {secret}")
    await reserve_tokens(grant, request, "tiny", 10**4000, 10**4000)
    with pytest.raises(RateLimitError, match="are reserved for its running requests; its limit is 100 per minute"):
        await gate.admit(f"Bearer {secret}")
    grant.release()
    (await gate.admit(f"Bearer {secret}")).release()


async def test_only_a_valid_key_is_admitted(client: httpx.AsyncClient, store: KeyStore) -> None:
    key, secret = store.create("one")
    _, expired = store.create("old", lifetime=datetime.timedelta(seconds=-1))
    assert (await ask(client, secret)).status_code == 200
    for path, body in (("/v1/chat/completions", CHAT), ("/v1/completions", {"model": "tiny", "prompt": "x"})):
        for headers in ({}, bearer("ty-wrong"), bearer(expired), bearer(""), {"Authorization": secret}):
            refused = await client.post(path, json=body, headers=headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    assert (await client.get("/v1/models")).status_code == 401
    assert (await client.get("/v1/models", headers=bearer(secret))).status_code == 200
    # Probes and scrapers need no key.
    assert [(await client.get(path)).status_code for path in ("/healthz", "/readyz", "/version", "/metrics")] == [
        200
    ] * 4
    store.revoke(key.id)
    assert (await ask(client, secret)).status_code == 401


async def test_a_key_made_by_another_process_counts_at_once(client: httpx.AsyncClient, store: KeyStore) -> None:
    _, first = store.create("a")
    assert (await ask(client, first)).status_code == 200
    _, second = KeyStore(store.path).create("b")
    assert (await ask(client, second)).status_code == 200


async def test_a_key_is_held_to_its_models(client: httpx.AsyncClient, store: KeyStore) -> None:
    _, secret = store.create("narrow", models=("other",))
    refused = await ask(client, secret)
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    _, wide = store.create("wide", models=("other", "tiny"))
    assert (await ask(client, wide)).status_code == 200


async def test_a_key_sees_only_the_models_that_it_may_use(client: httpx.AsyncClient, store: KeyStore) -> None:
    for models, visible in (((), ["tiny"]), (("tiny",), ["tiny"]), (("other",), [])):
        _, secret = store.create("-".join(("key", *models)), models=models)
        listed = (await client.get("/v1/models", headers=bearer(secret))).json()
        assert [card["id"] for card in listed["data"]] == visible
        one = await client.get("/v1/models/tiny", headers=bearer(secret))
        assert one.status_code == (200 if visible else 404)
        assert visible or one.json()["error"]["code"] == "model_not_found"


async def test_requests_per_minute(client: httpx.AsyncClient, store: KeyStore, clock: Clock) -> None:
    _, secret = store.create("slow", requests_per_minute=2)
    _, free = store.create("free")
    first, second, third = [await ask(client, secret) for _ in range(3)]
    assert (first.status_code, second.status_code, third.status_code) == (200, 200, 429)
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert [r.headers["x-ratelimit-remaining-requests"] for r in (first, second)] == ["1", "0"]
    assert second.headers["x-ratelimit-reset-requests"] == "60.000s"
    error = third.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert error["message"] == "This key used 2 requests; its limit is 2 per minute. Retry after 30 s."
    assert third.headers["retry-after"] == "30"
    assert (await ask(client, free)).status_code == 200
    clock.now += 30
    assert [(await ask(client, secret)).status_code for _ in range(2)] == [200, 429]


async def test_tokens_per_minute_are_those_of_the_engine(
    client: httpx.AsyncClient, store: KeyStore, clock: Clock
) -> None:
    _, secret = store.create("small", tokens_per_minute=600)
    answer = await ask(client, secret)
    used = answer.json()["usage"]["total_tokens"]
    streamed = await ask(client, secret, stream=True)
    assert streamed.headers["x-ratelimit-remaining-tokens"] in {str(600 - used - i) for i in range(used + 1)}
    left = int((await ask(client, secret, max_tokens=1)).headers["x-ratelimit-remaining-tokens"])
    assert 600 - 3 * used < left < 600 - 2 * used
    total = 600 - left
    while (answer := await ask(client, secret)).status_code == 200:
        total += answer.json()["usage"]["total_tokens"]
    wait_s = math.ceil((total - 600 + 1) * 60 / 600)
    message = f"This key used {total:,} tokens; its limit is 600 per minute. Retry after {wait_s} s."
    assert (answer.json()["error"]["message"], answer.headers["retry-after"]) == (message, str(wait_s))
    clock.now += 60
    assert (await ask(client, secret)).status_code == 200


async def test_concurrent_requests(client: httpx.AsyncClient, store: KeyStore) -> None:
    _, secret = store.create("one", max_streams=1)
    running = asyncio.create_task(ask(client, secret, stream=True))
    await asyncio.sleep(0.02)
    refused = await ask(client, secret)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    message = "This key has 1 request running; its limit is 1 at a time. Retry after 1 s."
    assert refused.json()["error"]["message"] == message
    assert (await running).status_code == 200
    assert (await ask(client, secret)).status_code == 200
    # A request that fails does not stay counted as running.
    assert (await ask(client, secret, max_tokens=100_000)).status_code == 400
    assert (await ask(client, secret)).status_code == 200


async def test_a_client_that_never_reads_no_longer_counts_as_running(
    make_model: ModelFactory, store: KeyStore, clock: Clock
) -> None:
    """The client has disconnected before the answer begins: no event is read, and no generator starts."""
    _, secret = store.create("one", max_streams=1)
    model = make_model(ANSWER, token_interval_s=0.002)
    gate = KeyGate(store, clock)
    api = create_api(model, ApiOptions(gate=gate))
    body = json.dumps(CHAT | {"stream": True}).encode()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "method": "POST",
        "path": "/v1/chat/completions",
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {secret}".encode()), (b"content-type", b"application/json")],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(_: Any) -> None:
        raise OSError("the client is gone")

    with contextlib.suppress(Exception):
        await api(scope, receive, send)
    (usage,) = gate._accounts.values()
    assert usage.running == 0
    await asyncio.sleep(0)
    assert model.engine.stats().requests == 0


def test_new_limits_keep_what_runs() -> None:
    gate = KeyGate(KeyStore(Path("/nonexistent/api_keys.json")), Clock())
    before = gate._account_of(_key(requests_per_minute=10))
    before.running = 1
    after = gate._account_of(_key(requests_per_minute=20))
    assert after is before
    assert after.requests is not None
    assert after.requests.per_minute == 20


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 40)), max_size=40))
def test_no_minute_has_more_than_the_limit_and_what_was_in_the_bucket(steps: list[tuple[float, int]]) -> None:
    """However requests are spread: at most capacity + refill are admitted over any stretch of time."""
    clock = Clock()
    store_path = Path("/nonexistent/api_keys.json")
    gate = KeyGate(KeyStore(store_path), clock)
    key = _key(requests_per_minute=10)
    admitted = []
    for wait_s, count in steps:
        clock.now += wait_s
        for _ in range(count):
            usage = gate._account_of(key)
            assert usage.requests is not None
            if usage.requests.is_empty:
                assert 1 <= bucket_error(usage.requests, "request").retry_after_s <= 6
                continue
            usage.requests.take(1)
            admitted.append(clock.now)
    for start in admitted:
        inside = [moment for moment in admitted if start <= moment <= start + 60]
        assert len(inside) <= 20


async def test_invalid_requests_count(client: httpx.AsyncClient, store: KeyStore) -> None:
    _, secret = store.create("slow", requests_per_minute=2)
    wrong = {"content": b"{", "headers": bearer(secret) | {"Content-Type": "application/json"}}
    answers = [await client.post("/v1/chat/completions", **wrong) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [400, 400, 429]


async def test_choices_count_as_streams(client: httpx.AsyncClient, store: KeyStore) -> None:
    _, secret = store.create("two", max_streams=2)
    refused = await ask(client, secret, n=3)
    message = "This key has 1 request running, and this one asks for 2 more; its limit is 2 at a time. Retry after 1 s."
    assert (refused.status_code, refused.json()["error"]["message"]) == (429, message)
    assert (await ask(client, secret, n=2)).status_code == 200
    assert (await ask(client, secret, n=2)).status_code == 200, "the streams were given back"


async def test_tokens_are_reserved_while_a_request_runs(client: httpx.AsyncClient, store: KeyStore) -> None:
    """Forty at once may not all pass because none has been charged yet."""
    _, secret = store.create("small", tokens_per_minute=50)
    answers = await asyncio.gather(*(ask(client, secret, max_tokens=50) for _ in range(40)))
    assert sorted(answer.status_code for answer in answers) == [200] + [429] * 39
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert "are reserved for its running requests; its limit is 50 per minute" in refused.json()["error"]["message"]


async def test_a_key_is_admitted_before_its_body_is_read(client: httpx.AsyncClient, store: KeyStore) -> None:
    """Bodies that are sent half count as running."""
    _, secret = store.create("one", max_streams=1)
    is_reading = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield b"{"
        is_reading.set()
        await asyncio.Event().wait()

    headers = bearer(secret) | {"Content-Type": "application/json"}
    waiting = asyncio.create_task(client.post("/v1/chat/completions", content=half(), headers=headers))
    await is_reading.wait()
    assert (await ask(client, secret)).status_code == 429
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert (await ask(client, secret)).status_code == 200


reservations = st.lists(
    st.tuples(st.sampled_from(["admit", "reserve", "charge", "close"]), st.integers(0, 5), st.integers(0, 300))
)


@given(reservations)
async def test_what_is_reserved_is_given_back(steps: list[tuple[str, int, int]]) -> None:
    """Whatever happens in whichever order: nothing is negative, and nothing stays when all requests have ended."""
    clock = Clock()
    gate = KeyGate(KeyStore(Path("/nonexistent/api_keys.json")), clock)
    key = _key(tokens_per_minute=1000, max_streams=4)
    usage = gate._account_of(key)
    grants: list[Grant] = []
    for action, number, amount in steps:
        with contextlib.suppress(RateLimitError):
            if action == "admit" and usage.running < 4:
                usage.running += 1
                grants.append(Grant(key, usage))
            elif grants:
                grant = grants[number % len(grants)]
                match action:
                    case "reserve":
                        await grant.reserve("tiny", amount, 1 + amount % 3)
                    case "charge":
                        grant.charge(UsageCounts(completion_tokens=amount))
                    case "close":
                        await grant.close()
        assert usage.reserved >= 0
        assert 0 <= usage.running <= 4
    for grant in grants:
        await grant.close()
    assert (usage.running, usage.reserved) == (0, 0)


def _key(**limits: int) -> Any:
    from tuneyard.api.api_keys import ApiKey

    return ApiKey(id="1", name="n", sha256="0", created_at=datetime.datetime.now(datetime.UTC), **limits)
