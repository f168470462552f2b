"""CompareVisit: what a person does on the Compare page, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from playwright.async_api import Locator, Page, expect

from tests.ui.browser.visit import Visit

RECORD_MESSAGES = """
window.received = [];
const plainFetch = window.fetch;
window.fetch = async (...given) => {
  const response = await plainFetch(...given);
  if (!String(given[0]?.url ?? given[0]).includes("/queue/") || !response.body) return response;
  const [shown, kept] = response.body.tee();
  (async () => {
    const reader = kept.getReader(), decoder = new TextDecoder();
    for (let part = await reader.read(); !part.done; part = await reader.read())
      window.received.push(decoder.decode(part.value, { stream: true }));
  })().catch(() => {});
  return new Response(shown, { status: response.status, headers: response.headers });
};
"""
"""Keeps what the page's server sends while answers stream."""


class CompareVisit(Visit):
    """An open Compare page."""

    @classmethod
    async def open(cls, page: Page, url: str, path: str = "/compare") -> Self:
        await page.add_init_script(RECORD_MESSAGES)
        return await super().open(page, url, path)

    async def usable(self) -> None:
        """Waits for the question box and two chosen models."""
        await expect(self.composer).to_be_visible()
        await expect(self.page.locator("#compare-models .token")).to_have_count(2)

    @property
    def sides(self) -> Locator:
        """The answers to the last question."""
        return self.page.locator("#compare-board .cmp-side")

    @property
    def vote_buttons(self) -> Locator:
        return self.page.locator("#compare-votes button:visible")

    async def ask(self, question: str, *, wait: bool = True) -> None:
        await self.composer.fill(question)
        await self.composer.press("Enter")
        await expect(self.page.locator("#compare-board .ty-question")).to_have_text(question)
        if wait:
            await self.idle()

    async def idle(self) -> None:
        """Waits until all answers have ended and the page says what can be done with them."""
        await expect(self.page.locator("#compare-board .cmp-round")).to_have_attribute("aria-busy", "false")
        await expect(self.send_button).to_be_visible()

    async def vote(self, label: str) -> None:
        """Clicks a vote's button and waits until the names are shown."""
        await self.page.get_by_role("button", name=label, exact=True).click()
        await expect(self.page.locator("#voted")).to_contain_text("vote is kept")

    async def side_with(self, text: str) -> Locator:
        """The answer with a text in it."""
        side = self.sides.filter(has_text=text)
        await expect(side).to_have_count(1)
        return side

    async def open_votes(self) -> None:
        """Opens the drawer with the win rates, if it is closed."""
        if not await self._has_open_votes():
            await self.page.locator("[data-drawer=votes-drawer]").click()
        await expect(self.page.locator("#win-rates")).to_be_in_viewport()

    async def close_votes(self) -> None:
        """Closes it, as a person does: by its button, or beside it where it lies above the page."""
        await self.page.evaluate("document.querySelector('[data-drawer=votes-drawer]').click()")
        await expect(self.page.locator("#win-rates")).not_to_be_in_viewport()

    async def _has_open_votes(self) -> bool:
        return "open" in (await self.page.locator("#votes-drawer").get_attribute("class") or "").split()

    async def download(self, label: str, path: Path) -> str:
        """Saves the file that a button of the drawer gives; returns its suggested name."""
        await self.open_votes()
        async with self.page.expect_download() as waiting:
            await self.page.get_by_role("button", name=label).click()
        saved = await waiting.value
        await saved.save_as(path)
        return saved.suggested_filename
