"""Keys over HTTP and by command: who is let in, to what, how often; and nothing of a key at rest."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.api.routes import ApiOptions, create_api
from serve_apps.deployment import Deployment
from serve_apps.http_front.key_gate import KeyGate
from serve_apps.metrics.measured_engine import MeasuredEngine
from tests.serve_apps.api.test_routes import ANSWER, ASK
from tests.serve_apps.conftest import ServiceFactory
from tuneyard.api.api_keys import KeyStore
from tuneyard.cli.main import main
from tuneyard.configs.serve import ServeConfig
from tuneyard.core.errors import ConfigError, RateLimitError


class Clock:
    """Seconds that a test lets pass."""

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
async def client(make_service: ServiceFactory, store: KeyStore, clock: Clock) -> AsyncIterator[httpx.AsyncClient]:
    service = make_service(ANSWER, token_interval_s=0.002)
    service._engine = MeasuredEngine(service.engine, "tiny", "tiny/1")
    api = create_api(lambda: service, ApiOptions(gate=KeyGate(store, clock)))
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


async def ask(client: httpx.AsyncClient, secret: str, **more: Any) -> httpx.Response:
    return await client.post("/v1/chat/completions", json=ASK | more, headers=bearer(secret))


async def test_only_a_valid_key_is_let_in(client: httpx.AsyncClient, store: KeyStore) -> None:
    key, secret = store.create("one")
    _, expired = store.create("old", lives=datetime.timedelta(seconds=-1))
    assert (await ask(client, secret)).status_code == 200
    for path, body in (("/v1/chat/completions", ASK), ("/v1/completions", {"model": "tiny", "prompt": "x"})):
        for headers in ({}, bearer("ty-wrong"), bearer(expired), bearer(""), {"Authorization": secret}):
            refused = await client.post(path, json=body, headers=headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    assert (await client.get("/v1/models")).status_code == 401
    assert (await client.get("/v1/models", headers=bearer(secret))).status_code == 200
    # Probes and scrapers need none.
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


async def test_a_scope_is_kept(client: httpx.AsyncClient, store: KeyStore) -> None:
    _, secret = store.create("narrow", models=("other",))
    refused = await ask(client, secret)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_allowed")
    _, wide = store.create("wide", models=("other", "tiny"))
    assert (await ask(client, wide)).status_code == 200


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
    assert "limit of 2 requests per minute" in error["message"]
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
    while (answer := await ask(client, secret)).status_code == 200:
        pass
    assert "tokens per minute" in answer.json()["error"]["message"]
    clock.now += 60
    assert (await ask(client, secret)).status_code == 200


async def test_requests_at_a_time(client: httpx.AsyncClient, store: KeyStore) -> None:
    _, secret = store.create("one", max_streams=1)
    running = asyncio.create_task(ask(client, secret, stream=True))
    await asyncio.sleep(0.02)
    assert (await ask(client, secret)).status_code == 429
    assert (await running).status_code == 200
    assert (await ask(client, secret)).status_code == 200
    # A request that fails gives its place back too.
    assert (await ask(client, secret, max_tokens=100_000)).status_code == 400
    assert (await ask(client, secret)).status_code == 200


async def test_a_client_that_never_reads_gives_its_place_back(
    make_service: ServiceFactory, store: KeyStore, clock: Clock
) -> None:
    """It is gone when the answer begins: no event is ever read, and no generator started."""
    _, secret = store.create("one", max_streams=1)
    service = make_service(ANSWER, token_interval_s=0.002)
    gate = KeyGate(store, clock)
    api = create_api(lambda: service, ApiOptions(gate=gate))
    body = json.dumps(ASK | {"stream": True}).encode()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "method": "POST",
        "path": "/v1/chat/completions",
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {secret}".encode())],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(_: Any) -> None:
        raise OSError("the client is gone")

    with contextlib.suppress(Exception):
        await api(scope, receive, send)
    (use,) = gate._uses.values()
    assert use.running == 0
    await asyncio.sleep(0)
    assert service.engine.stats().requests == 0


def test_new_limits_keep_what_runs() -> None:
    gate = KeyGate(KeyStore(Path("/nonexistent/api_keys.json")), Clock())
    before = gate._use_of(_key(requests_per_minute=10))
    before.running = 1
    after = gate._use_of(_key(requests_per_minute=20))
    assert after is before
    assert after.requests is not None
    assert after.requests.per_minute == 20


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 40)), max_size=40))
def test_no_minute_has_more_than_the_limit_and_what_was_in_the_bucket(steps: list[tuple[float, int]]) -> None:
    """However requests are spread: at most capacity + refill are let in over any stretch of time."""
    clock = Clock()
    store_path = Path("/nonexistent/api_keys.json")
    gate = KeyGate(KeyStore(store_path), clock)
    key = _key(requests_per_minute=10)
    let_in = []
    for wait_s, count in steps:
        clock.now += wait_s
        for _ in range(count):
            use = gate._use_of(key)
            try:
                gate._check_limits(key, use)
            except RateLimitError as e:
                assert 1 <= e.retry_after_s <= 6
                continue
            assert use.requests is not None
            use.requests.level -= 1
            let_in.append(clock.now)
    for start in let_in:
        inside = [moment for moment in let_in if start <= moment <= start + 60]
        assert len(inside) <= 20


def _key(**limits: int) -> Any:
    from tuneyard.api.api_keys import ApiKey

    return ApiKey(id="1", name="n", sha256="0", created_at=datetime.datetime.now(datetime.UTC), **limits)


def test_nothing_of_a_key_lies_at_rest(store: KeyStore) -> None:
    _, secret = store.create("a")
    assert secret not in store.path.read_text()
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600


def test_a_broken_file_is_said(store: KeyStore) -> None:
    store.path.write_text("{")
    with pytest.raises(ConfigError, match="not a file of API keys"):
        store.find("ty-x")


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEYARD_HOME", str(tmp_path))
    assert main(["keys", "list"]) == 0
    assert "no keys in" in capsys.readouterr().out
    arguments = ["--models", "a", "b", "--expires", "30d", "--requests-per-minute", "60", "--max-streams", "2"]
    assert main(["keys", "create", "ci", *arguments]) == 0
    secret, line, *_ = capsys.readouterr().out.splitlines()
    key = KeyStore().find(secret)
    assert key is not None
    assert line.startswith(f"{key.id}  ci  a, b  until ")
    assert line.endswith("60 requests/min, 2 at a time")
    assert main(["keys", "list"]) == 0
    assert secret not in (listed := capsys.readouterr().out)
    assert line in listed
    assert main(["keys", "revoke", key.id]) == 0
    assert main(["keys", "revoke", key.id]) == 1
    assert main(["keys", "create", "x", "--expires", "soon"]) == 1
    assert main(["keys", "create", "x", "--max-streams", "0"]) == 1
    assert "write 12h, 30d or 8w" in capsys.readouterr().err


def test_a_deployment_that_is_open_to_a_network_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEYARD_HOME", str(tmp_path))
    config = ServeConfig.model_validate(
        {"http": {"host": "0.0.0.0", "port": 18999}, "models": [{"model_id": "m", "checkpoint": "nowhere"}]}
    )
    with pytest.raises(ConfigError, match=r"http\.host is 0\.0\.0\.0, and there are no API keys"):
        Deployment(config).__enter__()
