"""The page by keyboard, for screen readers, on a phone; and who may open it."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, expect

from tests.ui.browser.compare_visit import CompareVisit
from tests.ui.browser.runs_visit import RunsVisit
from tests.ui.browser.visit import Visit, check_axe
from tests.ui.page_process import PageServer
from tests.ui.scripted_endpoint import ScriptedEndpoint, serve_in_thread

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_has_no_serious_findings(browser: Browser, server: PageServer, scheme: Any) -> None:
    context = await browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
    visit = await Visit.open(await context.new_page(), server.url)
    await visit.check_axe()
    await visit.ask("Give me an overview")
    await visit.page.get_by_role("button", name="Reasoning").click()
    await visit.page.get_by_role("button", name="Retry").click()
    await expect(visit.page.locator(".bot-row .ty-switch")).to_have_text("2 / 2")
    await visit.idle()
    await visit.ask("weather")
    await visit.ask("busy")
    await visit.check_axe()
    await visit.page.get_by_role("button", name="Settings").first.click()
    await expect(visit.page.get_by_label("System prompt")).to_be_in_viewport()
    await visit.check_axe()
    await context.close()


async def test_axe_on_a_phone(phone: BrowserContext, server: PageServer) -> None:
    visit = await Visit.open(await phone.new_page(), server.url)
    await visit.ask("Give me an overview")
    await visit.check_axe()
    await visit.page.get_by_role("button", name="Conversations").first.click()
    await expect(visit.page.locator("#book")).to_be_in_viewport()
    await visit.check_axe()
    visit.check_console()


async def test_a_phone_shows_one_thing_at_a_time(phone: BrowserContext, server: PageServer) -> None:
    visit = await Visit.open(await phone.new_page(), server.url)
    drawer = visit.page.locator("#book")
    await expect(drawer).not_to_be_in_viewport()
    await visit.ask("hello")
    box = await visit.composer.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 844
    assert await visit.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    await visit.page.get_by_role("button", name="Conversations").first.tap()
    await expect(drawer).to_be_in_viewport()
    await visit.page.locator("#book .ty-list a").first.tap()
    await expect(drawer).not_to_be_in_viewport()
    targets = await visit.page.locator("button:visible").evaluate_all(
        "buttons => buttons.map(b => [b.ariaLabel || b.innerText, b.getBoundingClientRect()]).filter(([, box]) =>"
        " box.width > 0 && box.right > 0 && Math.min(box.width, box.height) < 24).map(([name]) => name)"
    )
    assert targets == []
    visit.check_console()


@pytest.mark.parametrize("kind", [Visit, CompareVisit, RunsVisit])
async def test_beside_a_drawer_a_finger_can_close_it(
    phone: BrowserContext, compare_server: PageServer, kind: type[Visit]
) -> None:
    visit = await kind.open(await phone.new_page(), compare_server.url)
    drawer = visit.page.locator(".sidebar:not(.right)")
    opener = visit.page.locator(f"[data-drawer={await drawer.get_attribute('id')}]")
    await expect(opener).to_have_attribute("aria-expanded", "false")
    await opener.tap()
    await expect(opener).to_have_attribute("aria-expanded", "true")
    await expect(drawer).to_be_in_viewport()
    await visit.still()
    await visit.page.touchscreen.tap(380, 600)
    await expect(drawer).not_to_be_in_viewport()
    await expect(opener).to_have_attribute("aria-expanded", "false")


async def test_everything_by_keyboard(visit: Visit) -> None:
    await expect(visit.composer).to_be_focused()
    await visit.page.keyboard.type("first question")
    await visit.page.keyboard.press("Enter")
    await visit.idle()
    await expect(visit.composer).to_be_focused()
    await visit.page.keyboard.press("ArrowUp")
    await expect(visit.composer).to_have_value("first question")
    await visit.page.keyboard.press("Escape")
    await expect(visit.composer).to_have_value("")
    await visit.page.keyboard.type("go on forever")
    await visit.page.keyboard.press("Enter")
    await expect(visit.answers.last).to_contain_text("and so on")
    await visit.page.keyboard.press("Escape")
    await visit.idle()
    await expect(visit.page.locator(".ty-facts").last).to_contain_text("stopped")
    await expect(visit.composer).to_be_focused()
    reached: list[str] = []
    for _ in range(60):
        await visit.page.keyboard.press("Shift+Tab")
        reached.append(await visit.evaluate("document.activeElement.ariaLabel || document.activeElement.innerText"))
        if reached[-1].startswith("New chat"):
            break
    assert {"Retry: another answer", "Copy answer", "Settings", "New chat"} <= set(reached)
    assert await visit.evaluate("document.activeElement.matches(':focus-visible')")
    await visit.page.keyboard.press("Enter")
    await expect(visit.questions).to_have_count(0)
    await expect(visit.composer).to_be_focused()


async def test_signing_in_with_a_key_of_ones_own(browser: Browser) -> None:
    endpoint = ScriptedEndpoint(keys=frozenset({"ty-anna", "ty-ben"}))
    with serve_in_thread(endpoint.build_app()) as root_url:
        server = PageServer(("--base-url", f"{root_url}/v1", "--sign-in"))
        await asyncio.to_thread(server.start)
        try:
            context = await browser.new_context(color_scheme="dark")
            page = await context.new_page()
            await page.goto(server.url)
            await expect(page).to_have_url(f"{server.url}/sign-in")
            await check_axe(page)
            assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 22, 21)"
            await page.get_by_label("API key").fill("ty-wrong")
            await page.get_by_role("button", name="Sign in").click()
            await expect(page.get_by_role("alert")).to_have_text(
                f"{root_url}/v1 does not accept your API key: This API key is unknown."
            )
            await page.get_by_label("API key").fill("ty-anna")
            await page.get_by_role("button", name="Sign in").click()
            visit = Visit(page, server.url)
            await visit.usable()
            await visit.ask("hello")
            assert endpoint.used_keys[-1] == "ty-anna"
            assert "ty-anna" not in page.url + await page.content()
            kept = "JSON.stringify([localStorage, sessionStorage, document.cookie])"
            assert "ty-anna" not in await page.evaluate(kept)
            await page.get_by_role("button", name="Sign out").click()
            await expect(page).to_have_url(re.compile("/sign-in"))
            await page.get_by_label("API key").fill("ty-ben")
            await page.get_by_role("button", name="Sign in").click()
            await visit.usable()
            await expect(page.locator("#book .ty-list a")).to_have_count(0)
            await visit.ask("hello from ben")
            assert endpoint.used_keys[-1] == "ty-ben"
            await context.close()
        finally:
            await asyncio.to_thread(server.stop)
