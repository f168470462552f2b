from __future__ import annotations

import httpx
import pytest

from ui.endpoints.chat_client import ChatClient
from ui.server.page_server import PageOptions, build_page_app


@pytest.mark.parametrize("path", ["/", "/compare"])
async def test_the_document_is_ours(client: ChatClient, path: str) -> None:
    app = build_page_app(client, PageOptions(title="Acme <support>"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://page") as browser:
        page = await browser.get(path, headers={"accept": "text/html"})
        head = page.text.split("<body")[0]
        assert "<title>Acme &lt;support&gt;</title>" in head
        before_config = head.split("window.gradio_config")[0] + head.split("window.gradio_api_info")[-1]
        for foreign in (
            "Gradio<",
            'content="Gradio',
            "@teamGradio",
            "gradio.app",
            "githubusercontent",
            "manifest.json",
        ):
            assert foreign not in before_config
        assert int(page.headers["content-length"]) == len(page.content)
        for name in ("page.js", "page.css", "icon.svg"):
            address = head.split(f"-{name}")[0].rsplit('"', 1)[1] + f"-{name}"
            asset = await browser.get(address)
            assert asset.status_code == 200
            assert "immutable" in asset.headers["cache-control"]
        assert (await browser.get("/page/other.js")).status_code == 404
        assert (await browser.get("/favicon.ico")).headers["content-type"] == "image/svg+xml"
