from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.ui.scripted_endpoint import ScriptedEndpoint
from ui.endpoints.chat_client import ChatClient
from ui.server.page_server import PageOptions, build_page_app
from ui.server.sessions import COOKIE

HTML = {"accept": "text/html"}


@pytest.fixture
async def browser(client: ChatClient, endpoint: ScriptedEndpoint) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of a page with a login, where ty-anna may sign in."""
    endpoint.keys = frozenset({"ty-anna"})
    app = build_page_app(client, PageOptions(has_sign_in=True))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://page") as opened:
        yield opened


async def test_a_stranger_gets_the_form_and_nothing_else(browser: httpx.AsyncClient) -> None:
    page = await browser.get("/", headers=HTML)
    assert (page.status_code, page.headers["location"]) == (303, "/sign-in")
    assert (await browser.get("/sign-in")).status_code == 200
    for path in ("/config", "/gradio_api/info", "/gradio_api/queue/data?session_hash=x", "/theme.css", "/assets/x.js"):
        assert (await browser.get(path)).status_code == 401, path
    assert (await browser.post("/gradio_api/queue/join", json={})).status_code == 401


async def test_a_key_opens_the_page_and_is_not_in_it(browser: httpx.AsyncClient, endpoint: ScriptedEndpoint) -> None:
    signed_in = await browser.post("/sign-in", data={"key": "ty-anna"})
    assert signed_in.status_code == 303
    cookie = signed_in.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "ty-anna" not in cookie
    assert endpoint.used_keys == ["ty-anna"]
    page = await browser.get("/", headers=HTML)
    assert page.status_code == 200
    assert "ty-anna" not in page.text
    await browser.post("/sign-out")
    assert browser.cookies.get(COOKIE) is None
    assert (await browser.get("/", headers=HTML)).status_code == 303


@pytest.mark.parametrize(("key", "status"), [("ty-wrong", 401), ("", 400), ("ключ", 400), ("x" * 9000, 400)])
async def test_a_wrong_key_is_explained(browser: httpx.AsyncClient, key: str, status: int) -> None:
    refused = await browser.post("/sign-in", data={"key": key})
    assert refused.status_code == status
    assert 'role="alert"' in refused.text
    assert "OPENAI_API_KEY" not in refused.text, "a visitor cannot set the server's variable"
    assert "set-cookie" not in refused.headers


async def test_a_page_without_a_login_has_no_form(client: ChatClient) -> None:
    app = build_page_app(client, PageOptions())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://page") as opened:
        assert (await opened.get("/", headers=HTML)).status_code == 200
        assert (await opened.post("/sign-in", data={"key": "x"})).status_code in (404, 405)
