"""One page server, one scripted endpoint and one browser for all tests of the page in a real browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.serve_apps.platform_app.votes.vote_server import vote_api
from tests.ui.browser.visit import Visit
from tests.ui.compare.two_models import BASE, QUESTION, TUNED, TwoModels
from tests.ui.page_process import PageServer
from tests.ui.scripted_endpoint import LINEAGE, ScriptedEndpoint, serve_in_thread

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def scripted() -> Iterator[ScriptedEndpoint]:
    """A running scripted endpoint."""
    endpoint = ScriptedEndpoint(lineage=LINEAGE, delay_s=0.005)
    with serve_in_thread(endpoint.build_app()) as root_url:
        endpoint.base_url = f"{root_url}/v1"
        yield endpoint


@pytest.fixture(scope="session")
def server(scripted: ScriptedEndpoint) -> Iterator[PageServer]:
    """A running page."""
    page_server = PageServer(("--base-url", scripted.base_url, "--title", "Brindle support"))
    page_server.start()
    yield page_server
    page_server.stop()


@pytest.fixture(scope="session")
def models() -> Iterator[TwoModels]:
    """The two models."""
    endpoint = TwoModels(models=[BASE, TUNED], delay_s=0.005)
    with serve_in_thread(endpoint.build_app()) as root_url:
        endpoint.base_url = f"{root_url}/v1"
        yield endpoint


@pytest.fixture(scope="session")
def compare_server(models: TwoModels, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    """A page of the two models, and of an endpoint that keeps votes."""
    with vote_api(tmp_path_factory.mktemp("votes")) as api, serve_in_thread(api) as votes_url:
        server = PageServer(
            ("--base-url", models.base_url, "--base-url", f"{votes_url}/v1", "--system-prompt", "Be brief.",
             "--example", QUESTION)
        )  # fmt: skip
        server.start()
        yield server
        server.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """A headless Chromium."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium, or set CHROMIUM to its path")
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        await launched.close()


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A browser profile of its own, at 1280×800."""
    opened = await browser.new_context(
        viewport={"width": 1280, "height": 800}, permissions=["clipboard-read", "clipboard-write"]
    )
    yield opened
    await opened.close()


@pytest_asyncio.fixture(loop_scope="session")
async def phone(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A phone's profile: 390×844, touch."""
    opened = await browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    yield opened
    await opened.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(context: BrowserContext) -> Page:
    """An empty tab."""
    return await context.new_page()


@pytest_asyncio.fixture(loop_scope="session")
async def visit(page: Page, server: PageServer) -> AsyncIterator[Visit]:
    """The page, open and usable; fails if the console shows an error or another host is asked for anything."""
    opened = await Visit.open(page, server.url)
    yield opened
    opened.check_console()
