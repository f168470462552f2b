"""Visit: what a person does on the page, for tests."""

from __future__ import annotations

from typing import Any, Self
from urllib.parse import urlsplit

from playwright.async_api import Locator, Page, expect

TIMEOUT_MS = 15_000
expect.set_options(timeout=TIMEOUT_MS)


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
        """Reloads the page. What Gradio reports of the streams that it gives up is not counted."""
        before = list(self.errors)
        await self.page.reload()
        await self.usable()
        self.errors = before

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
        return self.page.locator(".ty-composer .submit-button")

    @property
    def stop_button(self) -> Locator:
        return self.page.locator(".ty-composer .stop-button")

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
        """Waits until no answer streams."""
        await expect(self.send_button).to_be_visible()
        await expect(self.page.locator(".ty-waiting")).to_have_count(0)
        await expect(self.page.locator("#chat .bot-row .ty-tools").last).to_be_visible()

    async def evaluate(self, script: str, *arguments: Any) -> Any:
        """What a JavaScript expression gives in the page."""
        return await self.page.evaluate(script, *arguments)

    def check_console(self) -> None:
        """Fails on errors in the console, and on requests to other hosts."""
        assert self.errors == [], self.errors
        assert self.foreign == [], self.foreign
