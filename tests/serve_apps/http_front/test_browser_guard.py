"""Web pages of other sites cannot use the API: hosts, origins and content types are checked."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from fastapi.responses import Response

from serve_apps.api.routes import ApiOptions, create_api
from serve_apps.http_front.browser_guard import BrowserGuard, host_name
from tests.serve_apps.api_client import ANSWER, CHAT
from tests.serve_apps.conftest import ModelFactory
from tuneyard.configs.serve import HttpConfig

PATHS = ("/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize", "/v1/chat/completions/render")
OWN = "127.0.0.1:8000"


def client_for(make_model: ModelFactory, http: HttpConfig) -> httpx.AsyncClient:
    api = create_api(make_model(ANSWER), ApiOptions(http=http))
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=f"http://{OWN}")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None]
)
async def test_bodies_that_pages_can_send_without_asking_are_refused(
    make_model: ModelFactory, path: str, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    async with client_for(make_model, HttpConfig()) as client:
        refused = await client.post(path, content=json.dumps(CHAT), headers=headers)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (415, "unsupported_media_type")
    assert (
        error["message"] == f"The request's Content-Type is {content_type or 'missing'}; it must be application/json."
    )


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "localhost@evil"])
async def test_a_host_that_is_not_this_servers_is_refused(make_model: ModelFactory, host: str) -> None:
    """With DNS rebinding a page reaches this server under the page's own name, and Origin and Host agree."""
    async with client_for(make_model, HttpConfig()) as client:
        for method, path in (("POST", PATHS[0]), ("GET", "/v1/models"), ("GET", "/metrics")):
            headers = {"Host": host, "Origin": f"http://{host}"}
            refused = await client.request(method, path, json=CHAT, headers=headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "host_not_allowed")


@pytest.mark.parametrize("host", ["127.0.0.1", "LOCALHOST:8000", "localhost", "[::1]:8000", "[::1]", "127.0.0.1:9"])
async def test_every_name_of_loopback_is_this_servers(make_model: ModelFactory, host: str) -> None:
    async with client_for(make_model, HttpConfig()) as client:
        assert (await client.get("/v1/models", headers={"Host": host})).status_code == 200
        own = {"Host": host, "Origin": f"http://{host}"}
        assert (await client.post(PATHS[0], json=CHAT, headers=own)).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:7860", f"ftp://{OWN}", ""])
async def test_another_origin_is_refused(make_model: ModelFactory, origin: str) -> None:
    async with client_for(make_model, HttpConfig()) as client:
        refused = await client.post(PATHS[0], json=CHAT, headers={"Origin": origin})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "origin_not_allowed")


async def test_configured_hosts_replace_those_of_loopback(make_model: ModelFactory) -> None:
    async with client_for(make_model, HttpConfig(allowed_hosts=("models.example.com",))) as client:
        assert (await client.get("/v1/models", headers={"Host": "models.example.com"})).status_code == 200
        assert (await client.get("/v1/models")).status_code == 403
    assert HttpConfig(host="0.0.0.0").served_hosts == ("*",), "there every request needs a key"
    assert HttpConfig(host="127.0.0.2").served_hosts == ("127.0.0.1", "localhost", "::1", "127.0.0.2")


async def test_configured_origins_are_let_through() -> None:
    async def app(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    guard = BrowserGuard(app, origins=["https://app.example.com/"])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://api.example.com") as client:
        for origin, status in (("https://app.example.com", 204), ("https://app.example.com.evil", 403)):
            assert (await client.get("/", headers={"Origin": origin})).status_code == status


@pytest.mark.parametrize(
    ("host", "name"),
    [("a.b:80", "a.b"), ("A.B", "a.b"), ("[::1]:80", "::1"), ("[::1]", "::1"), ("a.", "a"), ("a.:1", "a"), ("", "")],
)
def test_the_name_in_a_host_header(host: str, name: str) -> None:
    assert host_name(host) == name


async def test_a_post_without_a_body_needs_no_content_type(make_model: ModelFactory) -> None:
    """openai-node cancels a response so."""
    async with client_for(make_model, HttpConfig()) as client:
        answer = await client.post("/v1/responses/resp_1/cancel")
    assert answer.status_code != 415


@pytest.mark.parametrize("origin", ["http://[x", "null", "http://", "://", "http://[::1"])
async def test_an_origin_that_is_no_address_is_refused(make_model: ModelFactory, origin: str) -> None:
    async with client_for(make_model, HttpConfig()) as client:
        refused = await client.post(PATHS[0], json=CHAT, headers={"Origin": origin})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "origin_not_allowed")


async def test_metrics_are_scraped_by_address_and_not_under_another_name(make_model: ModelFactory) -> None:
    """Prometheus asks pods by their addresses. A page that rebinds its name sends that name as Host."""
    async with client_for(make_model, HttpConfig(allowed_hosts=("api.example.com",))) as client:
        for path in ("/metrics", "/version"):
            for host, status in (("10.0.0.7:8000", 200), ("[fd00::7]:8000", 200), ("evil.example", 403), ("", 403)):
                assert (await client.get(path, headers={"Host": host})).status_code == status
            page = {"Host": "10.0.0.7:8000", "Origin": "http://evil.example"}
            assert (await client.get(path, headers=page)).status_code == 403
        assert (await client.post("/tokenize", json={}, headers={"Host": "10.0.0.7"})).status_code == 403


async def test_routes_are_known_below_a_models_own_path() -> None:
    """Ray Serve leaves a model's route_prefix in the path, and names it as root_path."""

    async def app(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    transport = httpx.ASGITransport(BrowserGuard(app, hosts=["api.example.com"]), root_path="/base")
    async with httpx.AsyncClient(transport=transport, base_url="http://10.0.0.7") as client:
        for path, status in (("healthz", 204), ("metrics", 204), ("v1/models", 403)):
            assert (await client.get(f"/base/{path}")).status_code == status


async def test_probes_may_use_any_host(make_model: ModelFactory) -> None:
    async with client_for(make_model, HttpConfig(allowed_hosts=("api.example.com",))) as client:
        for path in ("/healthz", "/readyz"):
            assert (await client.get(path, headers={"Host": "10.0.0.7:8000"})).status_code == 200
        assert (await client.get("/v1/models", headers={"Host": "10.0.0.7:8000"})).status_code == 403


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/files", {}, 200),
        ("/v1/files", {"Content-Type": "application/json"}, 415),
        ("/v1/files/1", {}, 415),
        ("/v1/filesx", {}, 415),
        ("/x/v1/files", {}, 415),
        ("/v1/uploads/a/parts", {}, 200),
        ("/v1/uploads/a/b/parts", {}, 415),
        ("/v1/files", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("/v1/files", {"Sec-Fetch-Site": "same-site"}, 403),
        ("/v1/files", {"Sec-Fetch-Site": "same-origin"}, 200),
        ("/v1/files", {"Origin": "https://evil.example"}, 403),
        ("/v1/files", {"Origin": "null"}, 403),
        ("/v1/files", {"Origin": "https://app.example.com", "Sec-Fetch-Site": "cross-site"}, 200),
        ("/v1/files", {"Host": "evil.example"}, 403),
    ],
)
async def test_forms_are_taken_where_files_are_sent(path: str, headers: dict[str, str], status: int) -> None:
    """And a page of another site can send none, though its browser asks for no permission."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await Response()(scope, receive, send)

    paths = ("/v1/files", "/v1/uploads/[^/]+/parts")
    guard = BrowserGuard(answer, ("test",), ("https://app.example.com",), multipart_paths=paths)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://test") as client:
        form = {"Content-Type": "multipart/form-data; boundary=x"} | headers
        assert (await client.post(path, content=b"--x--", headers=form)).status_code == status
