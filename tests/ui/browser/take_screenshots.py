"""Takes the guide's pictures of the page, with the scripted endpoints: `python -m tests.ui.browser.take_screenshots`.

Chat and Compare, at 1280×800 in light and dark and on a phone, into docs/images. Look at them before they are kept.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, async_playwright

from tests.ui.browser.compare_visit import CompareVisit
from tests.ui.browser.conftest import CHROMIUM
from tests.ui.browser.visit import Visit
from tests.ui.compare.two_models import BASE, QUESTION, TUNED, TwoModels
from tests.ui.page_process import ROOT, PageServer
from tests.ui.scripted_endpoint import LINEAGE, ScriptedEndpoint, serve_in_thread

WIDE = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
EARLIER = ("What changed in version 3?", "How do I reset the router?")


def main() -> int:
    """Writes the pictures; 1 without Chromium."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "images")
    folder = parser.parse_args().folder
    if CHROMIUM is None:
        print("no Chromium here: apt-get install chromium, or set CHROMIUM to its path")
        return 1
    chat = ScriptedEndpoint(models=[TUNED], lineage=LINEAGE, delay_s=0.02)
    two = TwoModels(models=[BASE, TUNED], delay_s=0.02)
    with (
        tempfile.TemporaryDirectory() as votes,
        serve_in_thread(chat.build_app()) as chat_url,
        serve_in_thread(two.build_app()) as two_url,
    ):
        named = ("--title", "Brindle support", "--votes", f"{votes}/votes.jsonl")
        servers = [PageServer((*named, "--base-url", f"{url}/v1")) for url in (chat_url, two_url)]
        try:
            for server in servers:
                server.start()
            asyncio.run(_take(folder, *(server.url for server in servers)))
        finally:
            for server in servers:
                server.stop()
    return 0


async def _take(folder: Path, chat_url: str, compare_url: str) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        await _vote(browser, compare_url)
        for scheme, suffix in (("light", ""), ("dark", "-dark")):
            await _take_chat(browser, chat_url, folder / f"chat-page{suffix}.png", **WIDE, color_scheme=scheme)
            await _take_compare(browser, compare_url, folder / f"compare-page{suffix}.png", **WIDE, color_scheme=scheme)
        await _take_chat(browser, chat_url, folder / "chat-page-phone.png", **PHONE)
        await _take_compare(browser, compare_url, folder / "compare-page-phone.png", **PHONE)
        await browser.close()


async def _take_chat(browser: Browser, url: str, path: Path, **profile: Any) -> None:
    context = await browser.new_context(**profile)
    visit = await Visit.open(await context.new_page(), url)
    if not profile.get("is_mobile"):
        for question in EARLIER:
            await visit.ask(question)
            await visit.page.get_by_role("button", name="New chat").click()
    await visit.ask("What matters most? Give me an overview")
    await _save(visit, path)
    await context.close()


async def _vote(browser: Browser, url: str) -> None:
    """Casts some blind votes, so that there are win rates to see."""
    context = await browser.new_context(**WIDE)
    visit = await CompareVisit.open(await context.new_page(), url)
    await visit.page.get_by_label("Blind").check()
    for number, is_tuned_better in enumerate((True, True, False, True, True, True)):
        await visit.ask(f"{QUESTION} ({number})")
        side = await visit.side_with("amber" if is_tuned_better else "turns off")
        await visit.vote(f"{await side.locator('.cmp-letter').inner_text()} is better")
    await context.close()


async def _take_compare(browser: Browser, url: str, path: Path, **profile: Any) -> None:
    context = await browser.new_context(**profile)
    visit = await CompareVisit.open(await context.new_page(), url)
    await visit.page.get_by_label("Blind").check()
    await visit.ask(QUESTION)
    await _save(visit, path)
    await context.close()


async def _save(visit: Visit, path: Path) -> None:
    await visit.page.mouse.move(0, 0)
    await visit.still()
    await visit.page.screenshot(path=path)


if __name__ == "__main__":
    raise SystemExit(main())
