"""The chat page in Chromium: its weight, the time until a question can be asked, and the lag that it adds to tokens.

A scripted endpoint sends a numbered word every 20 ms. The lag of a word is the time from its sending until the page
shows it; that of the bare endpoint is the time until a plain HTTP client has read it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

from tests.ui.page_process import PageServer
from tests.ui.scripted_endpoint import ScriptedEndpoint, _line, serve_in_thread

ROUNDS = 5
WORDS, INTERVAL_S = 300, 0.02
PAGES = {"chat": "/", "compare": "/compare"}
USABLE = {
    "chat": "document.querySelector('.ty-composer textarea') && document.querySelector('#model input')?.value",
    "compare": "document.querySelector('.ty-composer textarea') && document.querySelectorAll('.token').length === 2",
}
"""A question can be asked: its box is there, and the models are listed."""

WATCH = """() => {
  window.shown = [];
  new MutationObserver(() => {
    const last = document.querySelector("#chat [role=log], #compare-board .cmp-side")?.textContent ?? "";
    const number = Number(last.match(/.*\\bw(\\d+)/s)?.[1] ?? -1);
    while (window.shown.length <= number) window.shown.push(Date.now() / 1000);
  }).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""
"""Notes when each numbered word of the first answer is in the document."""


@dataclass
class Clock(ScriptedEndpoint):
    """An endpoint whose answer is numbered words, and when it sent each of them."""

    sent: list[float] = field(default_factory=list)

    async def _stream(self, script: str, body: dict[str, Any]) -> AsyncIterator[str]:  # noqa: ARG002
        is_timed = body["model"] == self.models[0]
        for number in range(WORDS):
            await asyncio.sleep(INTERVAL_S)
            if is_timed:
                self.sent.append(time.time())
            yield _line({"choices": [{"index": 0, "delta": {"content": f"w{number} "}, "finish_reason": None}]})
        yield _line({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        yield "data: [DONE]\n\n"


def run() -> dict[str, Any]:
    """Measures both pages, each visit with an empty browser cache."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        return {"skipped": "no Chromium here: apt-get install chromium, or set CHROMIUM to its path"}
    clock = Clock(models=["one", "two"])
    with serve_in_thread(clock.build_app()) as root_url, sync_playwright() as playwright:
        clock.base_url = f"{root_url}/v1"
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        server = PageServer(("--base-url", clock.base_url))
        cold = [_cold_start(browser, server) for _ in range(ROUNDS)]
        server.start()
        try:
            _seconds_to_usable(browser, server.url, "chat")
            result = {
                "rounds": ROUNDS,
                "from_command_to_usable_s": statistics.median(total for total, _ in cold),
                "first_visitor_s": statistics.median(visit for _, visit in cold),
                "first_visitor_slowest_s": max(visit for _, visit in cold),
                **{
                    name: {
                        "usable_s": statistics.median(
                            _seconds_to_usable(browser, server.url, name) for _ in range(ROUNDS)
                        ),
                        **_weight(browser, server.url, name),
                        **_lag(browser, server.url, name, clock),
                    }
                    for name in PAGES
                },
            }
        finally:
            server.stop()
            browser.close()
    return result


def _cold_start(browser: Browser, server: PageServer) -> tuple[float, float]:
    """Seconds from the command, and from the first request once the server answers, until the page is usable."""
    started = time.perf_counter()
    server.start()
    try:
        visit_s = _seconds_to_usable(browser, server.url, "chat")
        return time.perf_counter() - started, visit_s
    finally:
        server.stop()


def _seconds_to_usable(browser: Browser, url: str, name: str) -> float:
    with _tab(browser) as page:
        started = time.perf_counter()
        _visit(page, url, name)
        return time.perf_counter() - started


def _weight(browser: Browser, url: str, name: str) -> dict[str, Any]:
    """Requests and bytes of a visit with an empty cache: over the wire, and unpacked."""
    with _tab(browser) as page:
        network = page.context.new_cdp_session(page)
        network.send("Network.enable")
        wire: list[float] = []
        unpacked: list[float] = []
        network.on("Network.loadingFinished", lambda event: wire.append(event["encodedDataLength"]))
        network.on("Network.dataReceived", lambda event: unpacked.append(event["dataLength"]))
        _visit(page, url, name)
        page.wait_for_load_state("load")
        return {"requests": len(wire), "wire_kib": sum(wire) / 1024, "unpacked_kib": sum(unpacked) / 1024}


def _lag(browser: Browser, url: str, name: str, clock: Clock) -> dict[str, Any]:
    """Milliseconds from the sending of a word until it is shown, and until a bare client has read it."""
    clock.sent.clear()
    bare = [read_at - sent_at for read_at, sent_at in zip(_read_bare(clock), clock.sent, strict=True)]
    clock.sent.clear()
    with _tab(browser) as page:
        _visit(page, url, name)
        page.evaluate(WATCH)
        page.locator(".ty-composer textarea").fill("Count.")
        page.locator(".ty-composer textarea").press("Enter")
        page.wait_for_function(f"window.shown.length === {WORDS}", timeout=60_000)
        shown: list[float] = page.evaluate("window.shown")
    lags = [shown_at - sent_at for shown_at, sent_at in zip(shown, clock.sent, strict=True)]
    return {
        f"{what}_lag_p{share}_ms": statistics.quantiles(values, n=20)[share // 5 - 1] * 1000
        for what, values in (("bare", bare), ("page", lags))
        for share in (50, 95)
    }


def _read_bare(clock: Clock) -> Iterator[float]:
    body = {"model": clock.models[0], "messages": [{"role": "user", "content": "Count."}], "stream": True}
    with httpx.stream("POST", f"{clock.base_url}/chat/completions", json=body, timeout=60) as stream:
        for line in stream.iter_lines():
            if '"content"' in line:
                yield time.time()


@contextmanager
def _tab(browser: Browser) -> Iterator[Page]:
    """A tab of a browser profile of its own, so that its cache is empty."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield context.new_page()
    context.close()


def _visit(page: Page, url: str, name: str) -> None:
    page.goto(url + PAGES[name], wait_until="commit")
    page.wait_for_function(USABLE[name], timeout=60_000)
