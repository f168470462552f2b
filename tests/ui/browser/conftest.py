"""One page server, one scripted endpoint and one browser for all tests of the page in a real browser."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.ui.browser.visit import Visit
from tests.ui.scripted_endpoint import LINEAGE, ScriptedEndpoint, serve_in_thread

ROOT = Path(__file__).parents[3]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@dataclass
class PageServer:
    """`python -m ui` in a process of its own, on a port that stays the same over restarts."""

    options: tuple[str, ...]
    port: int = field(default_factory=lambda: free_port())
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it and waits until it answers."""
        command = [sys.executable, "-m", "ui", "--port", str(self.port), *self.options]
        environ = os.environ | {"PYTHONPATH": "platform:.", "PYTHONWARNINGS": "ignore"}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                httpx.get(f"{self.url}/favicon.ico", timeout=5)
            except httpx.HTTPError:
                time.sleep(0.1)
            else:
                return
        raise TimeoutError("the page's server does not answer")

    def stop(self) -> None:
        """Ends it."""
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)
        self.process.stdout.close()


def free_port() -> int:
    """A port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
