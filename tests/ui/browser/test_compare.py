"""The Compare page in a real browser, with two scripted models and the real routes of votes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.ui.browser.compare_visit import CompareVisit
from tests.ui.compare.two_models import ANSWERS, BASE, QUESTION, TUNED, TwoModels
from tests.ui.page_process import PageServer

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(loop_scope="session")
async def visit(page: Page, compare_server: PageServer) -> AsyncIterator[CompareVisit]:
    opened = await CompareVisit.open(page, compare_server.url)
    yield opened
    opened.check_console()


def validate(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tuneyard.cli.main", "data", "validate", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


async def test_two_models_answer_side_by_side_with_the_differences_marked(visit: CompareVisit) -> None:
    await visit.ask(QUESTION)
    await expect(visit.sides).to_have_count(2)
    boxes = [await visit.sides.nth(i).bounding_box() for i in range(2)]
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    await expect(visit.sides.nth(0).locator("mark").first).to_have_text("router")
    await expect(visit.sides.nth(1).locator("mark").first).to_have_text("Brindle")
    await visit.page.get_by_label("Differences").uncheck()
    background = "getComputedStyle(document.querySelector('#compare-board mark')).backgroundColor"
    assert await visit.evaluate(background) == "rgba(0, 0, 0, 0)"


async def test_a_blind_vote_becomes_a_file_that_the_dataset_check_accepts(visit: CompareVisit, tmp_path: Path) -> None:
    await visit.page.get_by_label("Blind").check()
    await visit.evaluate("window.received.length = 0")
    await visit.ask(QUESTION)
    received = str(await visit.evaluate("window.received.join('')"))
    assert "hold the reset button" in received
    assert BASE not in received
    assert TUNED not in received
    board = await visit.page.locator("#compare-board").inner_html()
    assert BASE not in board
    assert TUNED not in board
    await expect(visit.sides.nth(0)).to_contain_text("name hidden")
    letter = await (await visit.side_with("amber")).locator(".cmp-letter").inner_text()
    await visit.page.get_by_label("Reason of the vote").fill("It knows the light.")
    await visit.vote(f"{letter} is better")
    await expect(visit.page.locator("#voted")).to_contain_text(f"You chose {letter}: {TUNED}.")
    await expect(visit.page.locator(".cmp-preferred .cmp-name")).to_have_text(TUNED)
    path = tmp_path / "preferences.jsonl"
    assert await visit.download("Preferences", path) == "preferences.jsonl"
    row = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
    assert row == {
        "input": {
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}],
        },
        "preferred_output": [{"role": "assistant", "content": ANSWERS[TUNED]}],
        "non_preferred_output": [{"role": "assistant", "content": ANSWERS[BASE]}],
    }
    checked = validate(path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    await expect(visit.page.locator("#win-rates")).to_contain_text(TUNED)


async def test_a_vote_can_be_taken_back(visit: CompareVisit) -> None:
    await visit.ask(QUESTION)
    await visit.vote("Tie")
    await visit.page.get_by_role("button", name="Undo").click()
    await expect(visit.vote_buttons).to_have_count(4)
    await visit.vote("Both bad")


async def test_an_edited_answer_becomes_a_row_to_train_on(visit: CompareVisit, tmp_path: Path) -> None:
    await visit.ask(QUESTION)
    await visit.page.get_by_role("button", name="Edit answer A").click()
    dialog = visit.page.locator("dialog textarea")
    await expect(dialog).to_have_value(ANSWERS[BASE])
    await dialog.fill("Hold it for five seconds.")
    await visit.page.get_by_role("button", name="Save as a training row").click()
    await expect(visit.sides.nth(0)).to_contain_text("Hold it for five seconds.")
    copied = await visit.copied_by(visit.page.get_by_role("button", name="Copy answer").first)
    assert copied == "Hold it for five seconds."
    path = tmp_path / "corrections.jsonl"
    await visit.download("Corrections", path)
    row = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
    assert row["messages"][-1] == {"role": "assistant", "content": "Hold it for five seconds."}
    checked = validate(path)
    assert checked.returncode == 0, checked.stdout + checked.stderr


async def test_votes_by_keyboard_alone(visit: CompareVisit) -> None:
    page = visit.page
    await visit.composer.focus()
    await page.keyboard.type(QUESTION)
    await page.keyboard.press("Enter")
    await expect(visit.vote_buttons).to_have_count(4)
    await visit.idle()
    await page.keyboard.press("Escape")
    await expect(page.locator("#vote-A")).to_be_focused()
    await page.keyboard.press("ArrowRight")
    await page.keyboard.press("ArrowRight")
    await expect(page.locator("#vote-tie")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("#voted")).to_contain_text("You voted for a tie.")


async def test_follow_ups_and_a_reload(visit: CompareVisit) -> None:
    await visit.ask(QUESTION)
    await visit.vote("B is better")
    await visit.ask("And then?")
    await expect(visit.page.locator("#compare-history .cmp-round")).to_have_count(1)
    await visit.reload()
    await expect(visit.page.locator("#compare-history .cmp-round")).to_have_count(1)
    await expect(visit.sides).to_have_count(2)
    await expect(visit.vote_buttons).to_have_count(4)
    await visit.vote("A is better")


async def test_a_reload_in_mid_answer_keeps_the_text(visit: CompareVisit) -> None:
    await visit.ask("go on forever", wait=False)
    await expect(visit.sides.nth(0)).to_contain_text("and so on")
    await visit.reload()
    await expect(visit.sides.nth(0)).to_contain_text("and so on")
    await expect(visit.sides.nth(0)).to_contain_text("stopped")


async def test_new_empties_the_page_and_offers_the_way_back(visit: CompareVisit) -> None:
    await visit.ask(QUESTION)
    await visit.page.get_by_role("button", name="New", exact=True).click()
    await expect(visit.sides).to_have_count(0)
    async with visit.loaded_anew():
        await visit.page.get_by_role("button", name="Back to the last one").click()
    await expect(visit.sides).to_have_count(2)


async def test_people_can_scroll_while_answers_stream(visit: CompareVisit) -> None:
    await visit.ask("go on forever", wait=False)
    scroll = visit.page.locator("#compare-scroll")
    await visit.page.wait_for_function("document.getElementById('compare-scroll').scrollHeight > 1200")
    await scroll.evaluate("box => box.scrollTo(0, 60)")
    height = await scroll.evaluate("box => box.scrollHeight")
    await visit.page.wait_for_function(f"document.getElementById('compare-scroll').scrollHeight > {height + 200}")
    assert await scroll.evaluate("box => box.scrollTop") == 60
    await visit.stop_button.click()
    await expect(visit.sides.nth(0)).to_contain_text("stopped")


async def test_an_open_step_stays_open_while_answers_stream(visit: CompareVisit) -> None:
    await visit.ask("Give me an overview", wait=False)
    await visit.sides.nth(0).locator("summary").click()
    await visit.idle()
    assert await visit.sides.nth(0).locator("details").evaluate("step => step.open")


async def test_a_models_text_is_text(visit: CompareVisit) -> None:
    await visit.ask("show me html")
    await expect(visit.sides.nth(0)).to_contain_text('<b style="position:fixed">')
    await expect(visit.sides.nth(0)).to_contain_text("a<b")
    assert await visit.page.locator("#compare-board img").count() == 0
    assert await visit.page.title() != "owned"


async def test_a_tab_outlives_a_restart_of_the_server(page: Page, models: TwoModels, tmp_path: Path) -> None:
    server = PageServer(("--base-url", models.base_url, "--votes", str(tmp_path / "votes.jsonl")))
    await asyncio.to_thread(server.start)
    try:
        visit = await CompareVisit.open(page, server.url)
        await visit.page.get_by_label("Blind").check()
        await visit.ask(QUESTION)
        await visit.composer.fill("typed before")
        async with visit.loaded_anew():
            await asyncio.to_thread(server.restart)
        await expect(page.locator("#problem")).to_contain_text("This comparison is gone")
        await expect(visit.composer).to_have_value("typed before")
        await visit.ask("once more")
        await expect(page.locator("#problem")).to_be_hidden()
        await visit.vote("Tie")
        assert (tmp_path / "votes.jsonl").read_text(encoding="utf-8").count("\n") == 1
        visit.check_console()
    finally:
        await asyncio.to_thread(server.stop)


async def test_a_restart_in_mid_answer_says_that_the_comparison_is_gone(
    visit: CompareVisit, compare_server: PageServer
) -> None:
    await visit.ask("go on forever", wait=False)
    await expect(visit.sides.nth(1)).to_contain_text("and so on")
    try:
        async with visit.loaded_anew():
            await asyncio.to_thread(compare_server.restart)
    finally:
        if not compare_server.is_running:  # other tests use it
            await asyncio.to_thread(compare_server.start)
    await expect(visit.page.locator("#problem")).to_contain_text("This comparison is gone")
    await expect(visit.sides).to_have_count(0)
    await expect(visit.send_button).to_be_visible()
    await visit.ask(QUESTION)
    await expect(visit.vote_buttons).to_have_count(4)


async def test_new_in_mid_answer_stays_empty(visit: CompareVisit) -> None:
    await visit.ask("go on forever", wait=False)
    await expect(visit.sides.nth(1)).to_contain_text("and so on")
    await visit.page.get_by_role("button", name="New", exact=True).click()
    await expect(visit.sides).to_have_count(0)
    await expect(visit.send_button).to_be_visible()
    await visit.ask(QUESTION)
    await expect(visit.page.locator("#compare-history .cmp-round")).to_have_count(0)
    await expect(visit.sides).to_have_count(2)


async def test_an_edit_that_changes_nothing_shows_no_error(visit: CompareVisit) -> None:
    await visit.ask(QUESTION)
    await visit.page.get_by_role("button", name="Edit answer A").click()
    await visit.page.get_by_role("button", name="Save as a training row").click()
    await visit.vote("Tie")  # the server has answered the edit by now
    await expect(visit.page.get_by_text("Error", exact=True)).to_have_count(0)


async def test_on_a_phone_one_answer_fills_the_screen_and_a_swipe_shows_the_next(
    phone: BrowserContext, compare_server: PageServer
) -> None:
    visit = await CompareVisit.open(await phone.new_page(), compare_server.url)
    await visit.ask(QUESTION)
    assert await visit.evaluate("document.documentElement.scrollWidth") <= 390
    first, second = [await box_of(visit, i) for i in range(2)]
    assert first["width"] > 300
    assert first["x"] >= 0
    assert second["x"] < 390, "the edge of the next answer shows"
    await visit.page.locator("#compare-board .cmp-sides").evaluate("row => row.scrollTo(1000, 0)")
    await visit.page.wait_for_function(
        "document.querySelectorAll('#compare-board .cmp-side')[1].getBoundingClientRect().right <= 390"
    )
    for i in range(await visit.vote_buttons.count()):
        button = await visit.vote_buttons.nth(i).bounding_box()
        assert button is not None
        assert button["x"] >= 0
        assert button["x"] + button["width"] <= 390
        assert button["height"] >= 36
    visit.check_console()


async def box_of(visit: CompareVisit, side: int) -> dict[str, Any]:
    box = await visit.sides.nth(side).bounding_box()
    assert box is not None
    return dict(box)


async def test_on_a_tablet_two_answers_are_in_sight(browser: Browser, compare_server: PageServer) -> None:
    context = await browser.new_context(viewport={"width": 768, "height": 1024})
    visit = await CompareVisit.open(await context.new_page(), compare_server.url)
    await visit.ask(QUESTION)
    edges = await visit.sides.evaluate_all("sides => sides.map(side => side.getBoundingClientRect().right)")
    assert len(edges) == 2
    assert max(edges) <= 768
    visit.check_console()
    await context.close()
