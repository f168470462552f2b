"""Visit: what a person does on the page, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import urlsplit

from axe_playwright_python.base import AXE_FILE_PATH
from playwright.async_api import Locator, Page, expect

TIMEOUT_MS = 15_000
RESTART_MS = 120_000
"""Longest wait for a page whose server starts anew."""
expect.set_options(timeout=TIMEOUT_MS)

ANSWERED = """() => {
  const rows = document.querySelectorAll("#chat :is(.user-row, .bot-row)"), last = rows[rows.length - 1];
  return last?.matches(".bot-row") && last.querySelector(".ty-tools") && !document.querySelector("#chat .ty-waiting")
    && document.querySelector(".ty-composer .submit-button");
}"""
"""The last message is an answer that has ended; the tools of an earlier one say nothing."""

STILL = """() => document.getAnimations().every(({ playState, effect }) =>
  playState !== "running" || effect.getComputedTiming().iterations === Infinity)"""
"""Drawers and colours have arrived where they go. Only what turns forever, as where something is waited for, moves."""


class Visit:
    """An open page."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.errors: list[str] = []
        self.foreign: list[str] = []
        page.set_default_timeout(TIMEOUT_MS)
        page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self._note_request(request.url))

    def _note_request(self, url: str) -> None:
        if urlsplit(url).netloc not in ("", urlsplit(self.url).netloc):
            self.foreign.append(url)

    @classmethod
    async def open(cls, page: Page, url: str, path: str = "/") -> Self:
        """Opens the page and waits until a question can be asked."""
        visit = cls(page, url)
        await page.goto(url + path)
        await visit.usable()
        return visit

    async def reload(self) -> None:
        """Reloads the page."""
        # A person is not as fast: the browser has kept what was done before.
        await self.page.evaluate("window.tuneyard?.book?.store.saving")
        async with self.loaded_anew():
            await self.page.reload()

    @asynccontextmanager
    async def loaded_anew(self, timeout: float = RESTART_MS) -> AsyncIterator[None]:
        """Waits until what is done in it has loaded the page anew, and the page is usable.

        What the browser reports of the requests that the page gives up when it is left is not counted.
        """
        before = list(self.errors)
        async with self.page.expect_event("domcontentloaded", timeout=timeout):
            yield
        self.errors = before
        await self.usable()

    async def usable(self) -> None:
        """Waits for the question box and a chosen model."""
        await expect(self.composer).to_be_visible()
        await expect(self.page.locator("#model input")).not_to_have_value("")
        await self.page.wait_for_function("window.tuneyard?.book")

    @property
    def composer(self) -> Locator:
        return self.page.locator(".ty-composer textarea")

    @property
    def send_button(self) -> Locator:
        return self.page.get_by_role("button", name="Send", exact=True)

    @property
    def stop_button(self) -> Locator:
        return self.page.get_by_role("button", name="Stop", exact=True)

    @property
    def questions(self) -> Locator:
        return self.page.locator("#chat .ty-question")

    @property
    def answers(self) -> Locator:
        """Texts of answers, without steps and tools."""
        return self.page.locator("#chat .bot-row .message-content:not(.thought-group *)")

    @property
    def scroller(self) -> Locator:
        return self.page.locator('#chat [role="log"]')

    async def ask(self, question: str, *, wait: bool = True) -> None:
        """Types and sends a question; waits for the end of its answer."""
        await self.composer.fill(question)
        await self.composer.press("Enter")
        await expect(self.questions.last).to_have_text(question)
        if wait:
            await self.idle()

    async def idle(self) -> None:
        """Waits until the last answer has ended."""
        await self.page.wait_for_function(ANSWERED)

    async def still(self) -> None:
        """Waits until nothing moves."""
        await self.page.wait_for_function(STILL)

    async def copied_by(self, button: Locator) -> str:
        """Clicks a button; returns the text that it puts into the clipboard."""
        await self.evaluate("navigator.clipboard.writeText('')")
        await button.click()
        text = await self.page.wait_for_function("async () => await navigator.clipboard.readText()")
        return str(await text.json_value())

    async def check_axe(self) -> None:
        """Fails on findings of axe that are serious or critical, once nothing moves."""
        await check_axe(self.page)

    async def evaluate(self, script: str, *arguments: Any) -> Any:
        """What a JavaScript expression gives in the page."""
        return await self.page.evaluate(script, *arguments)

    def check_console(self) -> None:
        """Fails on errors in the console, and on requests to other hosts."""
        assert self.errors == [], self.errors
        assert self.foreign == [], self.foreign


async def check_axe(page: Page) -> None:
    """Fails on findings of axe that are serious or critical, once nothing moves."""
    await page.wait_for_function(STILL)
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(AXE_FILE_PATH.read_text(encoding="utf-8"))
    # Gradio hides what it does not show; a scan is of what is on the page now.
    results: dict[str, Any] = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    serious = [
        (found["id"], found["impact"], [node["html"][:160] for node in found["nodes"][:3]])
        for found in results["violations"]
        if found["impact"] in ("serious", "critical")
    ]
    assert serious == [], "\n".join(map(str, serious))
