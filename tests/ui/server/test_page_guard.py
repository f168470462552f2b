"""The chat page answers only under its own names, only its own pages, and takes no uploads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import httpx
import pytest

from tests.ui.scripted_endpoint import serve_in_thread
from ui.endpoints.chat_client import ChatClient
from ui.server.listening import served_hosts
from ui.server.page_server import PageOptions, build_page_app


@contextlib.contextmanager
def served_page(host: str, *more: str) -> Iterator[str]:
    app = build_page_app(ChatClient(["http://127.0.0.1:9/v1"]), PageOptions(hosts=served_hosts(host, more)))
    with serve_in_thread(app) as root_url:
        yield root_url


async def status_of(method: str, url: str, **headers: str) -> int:
    response = await asyncio.to_thread(httpx.request, method, url, headers=headers, timeout=60)
    return response.status_code


async def test_other_hosts_and_other_sites_are_refused() -> None:
    with served_page("127.0.0.1", "chat.example.com") as root_url:
        own = root_url.removeprefix("http://")
        port = own.rpartition(":")[2]
        for host in (own, f"localhost:{port}", f"[::1]:{port}", "chat.example.com"):
            assert await status_of("GET", f"{root_url}/config", Host=host, Origin=f"http://{host}") == 200
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example"):
            assert await status_of("GET", f"{root_url}/config", Host=host, Origin=f"http://{host}") == 403
        for origin in ("http://evil.example", "null", f"http://127.0.0.1:{int(port) - 1}"):
            for path in ("/gradio_api/queue/join", "/gradio_api/call/x"):
                assert await status_of("POST", f"{root_url}{path}", Origin=origin) == 403
        assert await status_of("POST", f"{root_url}/gradio_api/queue/join", Origin=root_url) not in (403, 404)


async def test_uploads_are_refused() -> None:
    with served_page("127.0.0.1") as root_url:
        refused = await asyncio.to_thread(
            httpx.post, f"{root_url}/gradio_api/upload", files={"files": ("a.txt", b"x" * 1000)}, timeout=60
        )
    assert (refused.status_code, refused.text) == (403, "This page takes no uploads.")


@pytest.mark.parametrize(("host", "names"), [("0.0.0.0", ()), ("::1", ("127.0.0.1", "localhost", "::1", "::1"))])
def test_names_are_known_on_loopback_only(host: str, names: tuple[str, ...]) -> None:
    assert served_hosts(host, ()) == names
