"""RunsVisit: what a person does on the Runs page, for tests."""

from __future__ import annotations

from typing import Self

from playwright.async_api import Locator, Page, expect

from tests.ui.browser.visit import Visit


class RunsVisit(Visit):
    """An open Runs page."""

    @classmethod
    async def open(cls, page: Page, url: str, path: str = "/runs") -> Self:
        return await super().open(page, url, path)

    async def usable(self) -> None:
        """Waits for runs, or for the words that say why there are none."""
        await expect(self.page.locator("#run-table tbody tr, .run-empty h2").first).to_be_visible()

    def row(self, name: str) -> Locator:
        """A run's row."""
        return self.page.locator("#run-table tbody tr").filter(has=self.page.get_by_role("button", name=name))

    def chart(self, title: str) -> Locator:
        """The figure of a chart."""
        return self.page.locator(".run-chart").filter(has=self.page.get_by_text(title, exact=True))
