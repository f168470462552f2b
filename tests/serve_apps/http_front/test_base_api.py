"""Pages of configured sites may use the API from a browser; others may not."""

from __future__ import annotations

import httpx
import pytest

from serve_apps.api.routes import ApiOptions, create_api
from tests.serve_apps.api_client import ANSWER, CHAT
from tests.serve_apps.conftest import ModelFactory
from tuneyard.configs.serve import HttpConfig

SITE = "https://app.example.com"
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
}


def client_with(make_model: ModelFactory, *origins: str) -> httpx.AsyncClient:
    http = HttpConfig(allowed_hosts=("*",), cors_origins=origins)
    api = create_api(make_model(ANSWER), ApiOptions(http=http))
    return httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://test")


@pytest.mark.parametrize("configured", [SITE, "*"])
async def test_a_configured_site_may_use_the_api(make_model: ModelFactory, configured: str) -> None:
    async with client_with(make_model, configured) as client:
        path = "/v1/chat/completions"
        allowed = await client.options(path, headers=PREFLIGHT | {"Origin": SITE})
        assert allowed.status_code == 200
        assert "x-stainless-os" in allowed.headers["access-control-allow-headers"]
        for body, status in ((CHAT, 200), ({}, 400)):
            answered = await client.post(path, json=body, headers={"Origin": SITE})
            assert answered.status_code == status
            assert answered.headers["access-control-allow-origin"] in (SITE, "*")


@pytest.mark.parametrize("configured", [(), ("https://other.example.com",)])
async def test_another_site_may_not(make_model: ModelFactory, configured: tuple[str, ...]) -> None:
    async with client_with(make_model, *configured) as client:
        for refused in (
            await client.options("/v1/chat/completions", headers=PREFLIGHT | {"Origin": SITE}),
            await client.post("/v1/chat/completions", json=CHAT, headers={"Origin": SITE}),
        ):
            assert refused.status_code == 403
            assert refused.json()["error"]["code"] == "origin_not_allowed"
            assert "access-control-allow-origin" not in refused.headers
