"""Whatever keys, prompts and answers are: none of them is in what is kept of usage, limits and actions, or in logs."""

from __future__ import annotations

import logging
import string
import tempfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve_apps.api.routes import ApiOptions, create_api
from serve_apps.engine_wrappers.token_charge import ChargedEngine
from serve_apps.keys.counting import open_counting
from serve_apps.keys.key_gate import KeyGate
from serve_apps.keys.metrics import KeyMetrics
from serve_apps.metrics.exposition import as_text
from tests.redis_server import PASSWORD, RedisServer
from tests.serve_apps.api_client import THOUGHT
from tests.serve_apps.conftest import ModelFactory
from tuneyard.api.api_keys import KeyStore
from tuneyard.api.usage_ledger import usage_location
from tuneyard.configs.limits.key_counting import KeyCountingConfig
from tuneyard.storage.audit_log import AuditLog

WORDS = st.text(string.ascii_lowercase, min_size=12, max_size=24)
"""Long enough not to occur by chance."""


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prompt=WORDS, answer=WORDS, wrong_secret=WORDS, admin_key=WORDS, body=st.sampled_from(["chat", "text", "broken"])
)
async def test_no_prompt_and_no_secret_is_kept(
    make_model: ModelFactory,
    redis_server: RedisServer,
    caplog: pytest.LogCaptureFixture,
    prompt: str,
    answer: str,
    wrong_secret: str,
    admin_key: str,
    body: str,
) -> None:
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = KeyStore(folder / "api_keys.json")
        key, secret = store.create("team", tokens_per_minute=10_000, requests_per_minute=20, tokens_per_month=10_000)
        store.update(key.id, {"tokens_per_month": 20_000})
        metrics = KeyMetrics()
        config = KeyCountingConfig(
            rate_limits_store=redis_server.url, rate_limits_password_file=redis_server.password_file
        )
        counting = open_counting(config, usage_location(store.path, None), metrics)
        gate = KeyGate(store, counting=counting, metrics=metrics)
        model = make_model(f"{THOUGHT}<|channel|>final<|message|>{answer}<|return|>")
        model.engine = ChargedEngine(model.engine)
        log = AuditLog(folder / "audit.jsonl")
        api = create_api(model, ApiOptions(gate=gate, admin_key=admin_key, audit_log=log))
        transport = httpx.ASGITransport(api, raise_app_exceptions=False)
        async with gate.running(), httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            chat = {"model": "tiny", "messages": [{"role": "user", "content": prompt}]}
            path, content = {
                "chat": ("/v1/chat/completions", chat),
                "text": ("/v1/completions", {"model": "tiny", "prompt": prompt}),
                "broken": ("/v1/chat/completions", {"model": prompt, "messages": prompt, prompt: prompt}),
            }[body]
            for given_secret in (secret, wrong_secret, admin_key):
                await client.post(path, json=content, headers={"Authorization": f"Bearer {given_secret}"})
            rendered = await client.post(
                "/v1/chat/completions/render", json=chat, headers={"Authorization": f"Bearer {admin_key}"}
            )
            assert rendered.status_code == 200
            page = as_text(gate.collect())
        store.revoke(key.id)
        assert [event.action for event in log.events()] == ["key.create", "key.update", "prompt.render", "key.revoke"]
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert {"usage.db", "audit.jsonl", "api_keys.json"} <= set(files)
        # The log of the HTTP client belongs to the test.
        lines = [record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
        kept = {**files, "log": "\n".join(lines).encode(), "metrics": page.encode()}
        kept["redis"] = "\n".join(redis_server.texts()).encode()
        for hidden in (prompt, answer, secret, secret.removeprefix("ty-"), wrong_secret, admin_key, PASSWORD):
            for place, data in kept.items():
                assert hidden.encode() not in data, f"{place} holds {hidden}"
