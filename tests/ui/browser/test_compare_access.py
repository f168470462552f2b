"""The Compare page by keyboard, for screen readers, in light and dark, wide and on a phone."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tests.ui.browser.compare_visit import CompareVisit
from tests.ui.compare.two_models import QUESTION
from tests.ui.page_process import PageServer

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

FOCUSED = "document.activeElement.ariaLabel || document.activeElement.innerText || document.activeElement.id"


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_has_no_serious_findings(
    browser: Browser, compare_server: PageServer, scheme: Any, width: int
) -> None:
    context = await browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    visit = await CompareVisit.open(await context.new_page(), compare_server.url)
    await visit.check_axe()
    await visit.page.get_by_label("Blind").check()
    await visit.ask(QUESTION)
    await visit.sides.nth(0).locator("summary").click()
    await visit.check_axe()
    await visit.vote("Tie")
    await visit.check_axe()
    await visit.ask("And then?")
    await visit.check_axe()
    await visit.open_votes()
    await visit.check_axe()
    await visit.close_votes()
    await visit.page.get_by_role("button", name="Settings").first.click()
    await expect(visit.page.get_by_label("System prompt")).to_be_in_viewport()
    await visit.check_axe()
    visit.check_console()
    await context.close()


async def test_everything_by_keyboard(page: Page, compare_server: PageServer) -> None:
    visit = await CompareVisit.open(page, compare_server.url)
    keys = page.keyboard
    await expect(visit.composer).to_be_focused()
    reached = await tab_back_to(visit, "Votes")
    assert {"Settings", "New"} <= set(reached), reached
    await expect(page.locator("#win-rates")).to_be_visible()
    await keys.press("Enter")
    await expect(page.locator("#win-rates")).to_be_hidden()
    await keys.press("Enter")
    await expect(page.locator("#win-rates")).to_be_visible()
    await page.get_by_label("Blind").focus()
    await keys.press("Space")
    await expect(page.get_by_label("Blind")).to_be_checked()
    await visit.composer.focus()
    await keys.type("go on forever")
    await keys.press("Enter")
    await expect(visit.sides.nth(1)).to_contain_text("and so on")
    await expect(visit.composer).to_be_focused()
    await keys.press("Escape")
    await expect(visit.sides.nth(1)).to_contain_text("stopped")
    await visit.idle()
    await expect(visit.composer).to_be_focused()
    await keys.type(QUESTION)
    await keys.press("Enter")
    await expect(page.locator("#compare-history .cmp-round")).to_have_count(1)
    await visit.idle()
    await expect(visit.composer).to_be_focused()
    await keys.press("Escape")
    await expect(page.locator("#vote-A")).to_be_focused()
    assert await visit.evaluate("document.activeElement.matches(':focus-visible')")
    await keys.press("ArrowLeft")
    await expect(page.locator("#vote-both-bad")).to_be_focused()
    await keys.press("Enter")
    await expect(page.locator("#voted")).to_contain_text("vote is kept")
    reached = await tab_back_to(visit, "Edit answer A")
    assert "Copy answer" in reached, reached
    await keys.press("Enter")
    await expect(page.locator("dialog textarea")).to_be_focused()
    await keys.press("Escape")
    await expect(page.locator("dialog")).to_have_count(0)


async def tab_back_to(visit: CompareVisit, name: str) -> list[str]:
    """Presses Shift+Tab until something whose name starts so has focus; the names on the way."""
    reached: list[str] = []
    for _ in range(60):
        await visit.page.keyboard.press("Shift+Tab")
        reached.append(str(await visit.evaluate(FOCUSED)))
        if reached[-1].startswith(name):
            return reached
    raise AssertionError(f"{name} is not reached by keyboard, but {reached}")
