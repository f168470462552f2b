"""Health, version and model list; the rendered prompt, for administrators only."""

from __future__ import annotations

from pathlib import Path

import httpx

from serve_apps.api.routes import ApiOptions, create_api
from tests.serve_apps.api_client import ANSWER, CHAT, client_of
from tests.serve_apps.conftest import ModelFactory
from tuneyard.storage.audit_log import AuditLog


async def test_models_health_and_version(tiny_client: httpx.AsyncClient) -> None:
    (card,) = (await tiny_client.get("/v1/models")).json()["data"]
    assert (await tiny_client.get("/v1/models/tiny")).json() == card
    assert (await tiny_client.get("/v1/models/org/other")).json()["error"]["code"] == "model_not_found"
    assert (await tiny_client.get("/readyz")).json()["status"] == "ok"
    assert (await tiny_client.get("/version")).json()["version"]


async def test_a_dead_engine_is_not_ready(make_model: ModelFactory) -> None:
    async with client_of(make_model("<|channel|>final<|message|>x ", crash_after_tokens=2)) as client:
        await client.post("/v1/chat/completions", json=CHAT)
        assert (await client.get("/readyz")).status_code == 503


async def test_render_gives_the_prompt_of_a_completion_to_administrators_only(make_model: ModelFactory) -> None:
    api = create_api(make_model(ANSWER), ApiOptions(admin_key="secret"))
    tool = {"type": "function", "function": {"name": "now"}}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://test") as client:
        path = "/v1/chat/completions/render"
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "}):
            refused = await client.post(path, json=CHAT, headers=headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "admin_key_required")
        headers = {"Authorization": "Bearer secret"}
        rendered = (await client.post(path, json=CHAT, headers=headers)).json()
        usage = (await client.post("/v1/chat/completions", json=CHAT)).json()["usage"]
        assert len(rendered["prompt_token_ids"]) == usage["prompt_tokens"]
        assert rendered["text"].endswith("<|start|>user<|message|>hi<|end|><|start|>assistant")
        with_tool = (await client.post(path, json=CHAT | {"tools": [tool]}, headers=headers)).json()
        assert "namespace functions" in with_tool["text"]
        refused = await client.post("/v1/chat/completions", json=CHAT | {"tools": [tool]})
        assert refused.json()["error"]["param"] == "tools"


async def test_without_a_key_the_administrators_route_is_closed(tiny_client: httpx.AsyncClient) -> None:
    headers = {"Authorization": "Bearer None"}
    assert (await tiny_client.post("/v1/chat/completions/render", json=CHAT, headers=headers)).status_code == 403


async def test_a_parity_check_is_one_line_of_the_audit_log(make_model: ModelFactory, tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    api = create_api(make_model(ANSWER), ApiOptions(admin_key="secret", audit_log=log))
    headers = {"Authorization": "Bearer secret"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://test") as client:
        for _ in range(20):
            assert (await client.post("/v1/chat/completions/render", json=CHAT, headers=headers)).status_code == 200
    assert [(event.action, event.target, event.actor) for event in log.events()] == [
        ("prompt.render", "tiny", "admin key")
    ]
