"""Conversations: listed, searched, renamed, deleted and restored, branched, exported, imported."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, expect

from tests.ui.browser.visit import Visit
from tests.ui.page_process import PageServer
from tests.ui.scripted_endpoint import ScriptedEndpoint
from tuneyard.cli.main import main as tuneyard

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_conversations_are_listed_searched_renamed_and_deleted_with_undo(visit: Visit) -> None:
    titles = visit.page.locator("#book .ty-list a")
    await visit.ask("apples and pears")
    await visit.page.get_by_role("button", name="New chat").click()
    await visit.ask("bicycle repair")
    await expect(titles).to_have_text(["bicycle repair", "apples and pears"])
    await visit.page.get_by_role("searchbox").fill("said PEARS")
    await expect(titles).to_have_text(["apples and pears"])
    await visit.page.get_by_role("searchbox").fill("")
    await titles.first.hover()
    await visit.page.get_by_role("button", name="Rename bicycle repair").click()
    await visit.page.get_by_label("New title").fill("Bikes")
    await visit.page.keyboard.press("Enter")
    await expect(titles).to_have_text(["Bikes", "apples and pears"])
    await visit.ask("and a second question")
    await expect(titles.first).to_have_text("Bikes")
    await visit.page.get_by_role("button", name="Delete Bikes").click()
    await expect(titles).to_have_text(["apples and pears"])
    await expect(visit.questions).to_have_count(0)
    await visit.page.get_by_role("button", name="Undo").click()
    await expect(titles).to_have_text(["Bikes", "apples and pears"])
    await titles.first.click()
    await expect(visit.questions).to_have_text(["bicycle repair", "and a second question"])
    await visit.reload()
    await expect(titles).to_have_text(["Bikes", "apples and pears"])


async def test_an_edited_question_branches(visit: Visit) -> None:
    await visit.ask("one")
    await visit.ask("two")
    await visit.questions.first.hover()
    await visit.page.get_by_role("button", name="Edit question").first.click()
    await expect(visit.composer).to_have_value("one")
    await expect(visit.page.locator("#ty-editing")).to_be_visible()
    await visit.composer.fill("other")
    await visit.composer.press("Enter")
    await expect(visit.questions).to_have_text(["other"])
    await visit.idle()
    await expect(visit.page.locator("#ty-editing")).to_have_count(0)
    await expect(visit.page.locator(".ty-switch")).to_have_text("2 / 2")
    await visit.questions.first.hover()
    await visit.page.get_by_role("button", name="Previous question").click()
    await expect(visit.questions).to_have_text(["one", "two"])


async def test_alternatives_of_an_answer_are_kept(visit: Visit, scripted: ScriptedEndpoint) -> None:
    await visit.ask("repeat me")
    await visit.page.get_by_role("button", name="Retry").click()
    switch = visit.page.locator(".bot-row .ty-switch")
    await expect(switch).to_have_text("2 / 2")
    await visit.idle()
    assert scripted.requests[-1]["messages"] == [{"role": "user", "content": "repeat me"}]
    await visit.page.get_by_role("button", name="Edit answer").click()
    await visit.page.get_by_role("textbox", name="Edit the answer").fill("Corrected by hand.")
    await visit.page.get_by_role("button", name="Save as another answer").click()
    await expect(switch).to_have_text("3 / 3")
    await expect(visit.answers.last).to_have_text("Corrected by hand.")
    await expect(visit.page.locator(".ty-facts")).to_contain_text("edited")
    await visit.page.get_by_role("button", name="Previous answer").click()
    await expect(visit.answers.last).to_have_text("You said: repeat me")
    await visit.reload()
    await expect(switch).to_have_text("2 / 3")


async def test_an_answer_goes_on_while_another_conversation_is_shown(visit: Visit) -> None:
    await visit.ask("slow", wait=False)
    await expect(visit.answers.last).to_contain_text("Line 5")
    await visit.page.get_by_role("button", name="New chat").click()
    await visit.ask("meanwhile")
    await expect(visit.answers).to_have_text(["You said: meanwhile"])
    await visit.page.locator("#book .ty-list a", has_text="slow").click()
    await expect(visit.answers.last).to_contain_text("Line 119", timeout=15_000)
    await visit.idle()
    await expect(visit.page.locator(".ty-facts").last).not_to_contain_text("stopped")


async def test_an_export_is_training_data_and_can_be_imported(
    visit: Visit, context: BrowserContext, server: PageServer, tmp_path: Path
) -> None:
    await visit.page.get_by_role("button", name="Settings").first.click()
    await visit.page.get_by_label("System prompt").fill("You answer for Brindle.")
    await visit.page.keyboard.press("Escape")
    await visit.ask("what is html")
    await visit.ask("and \u2028 arabic")
    await visit.page.get_by_role("button", name="New chat").click()
    await visit.ask("hello")
    async with visit.page.expect_download() as waiting:
        await visit.page.get_by_role("button", name="Export all").click()
    file = tmp_path / (await waiting.value).suggested_filename
    await (await waiting.value).save_as(file)
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
    assert [len(row["messages"]) for row in rows] == [2, 5]
    assert rows[1]["messages"][0] == {"role": "system", "content": "You answer for Brindle."}
    assert tuneyard(["data", "validate", str(file)]) == 0
    other = await Visit.open(await context.new_page(), server.url)
    await other.page.locator("#book input[type=file]").set_input_files(file)
    titles = other.page.locator("#book .ty-list a")
    await expect(titles).to_have_count(4)
    await expect(other.page.locator(".ty-toast")).to_contain_text("2 conversations imported.")
    await titles.get_by_text("what is html").first.click()
    await expect(other.questions).to_have_count(2)
    file.write_text("no rows", encoding="utf-8")
    await other.page.locator("#book input[type=file]").set_input_files(file)
    await expect(other.page.locator(".ty-toast")).to_contain_text("Line 1 is not JSON")


async def test_hundreds_of_conversations_are_imported_at_once(
    visit: Visit, context: BrowserContext, tmp_path: Path
) -> None:
    file, titles = tmp_path / "many.jsonl", visit.page.locator("#book .ty-list a")
    answer = {"role": "assistant", "content": "Yes."}
    rows = [json.dumps({"messages": [{"role": "user", "content": f"Question {n}"}, answer]}) for n in range(200)]
    file.write_text("\n".join(rows), encoding="utf-8")
    other = await Visit.open(await context.new_page(), visit.url)
    for page in (visit, other):
        await page.evaluate(
            "window.drawn = 0; new MutationObserver(() => (drawn += 1)).observe("
            "document.querySelector('.ty-list'), { childList: true })"
        )
    await visit.page.locator("#book input[type=file]").set_input_files(file)
    for page in (visit, other):
        await expect(page.page.locator("#book .ty-list a")).to_have_count(200)
        assert await page.evaluate("drawn") == 1
    await visit.reload()
    await expect(titles).to_have_count(200)


async def test_the_list_can_be_used_while_an_answer_streams(visit: Visit) -> None:
    await visit.ask("hello")
    await visit.page.get_by_role("button", name="New chat").click()
    await visit.ask("slow", wait=False)
    await expect(visit.answers.last).to_contain_text("Line 5")
    other = visit.page.locator("#book .ty-list a", has_text="hello")
    await other.focus()
    await expect(visit.answers.last).to_contain_text("Line 60")
    await expect(other).to_be_focused()
    # A person's click takes as long as some words.
    await other.click(delay=300)
    await expect(visit.questions).to_have_text(["hello"])


async def test_the_server_restarts_under_an_open_page(visit: Visit, server: PageServer) -> None:
    await visit.ask("before the restart")
    await visit.ask("go on forever", wait=False)
    await expect(visit.answers.last).to_contain_text("and so on")
    # The browser keeps a growing answer every second.
    await visit.page.wait_for_function("tuneyard.book.current.nodes.at(-1).text?.includes('and so on')")
    await visit.composer.fill("after the restart")
    try:
        async with visit.loaded_anew():
            await asyncio.to_thread(server.stop)
            await expect(visit.page.locator(".ty-toast")).to_contain_text("nothing is lost")
            await asyncio.to_thread(server.start)
    finally:
        if not server.is_running:  # other tests use it
            await asyncio.to_thread(server.start)
    await expect(visit.answers.last).to_contain_text("and so on")
    await expect(visit.page.locator(".ty-facts").last).to_contain_text("stopped")
    await expect(visit.composer).to_have_value("after the restart")
    await visit.composer.press("Enter")
    await expect(visit.questions.last).to_have_text("after the restart")
    await visit.idle()
    await expect(visit.questions).to_have_text(["before the restart", "go on forever", "after the restart"])
    await expect(visit.answers.last).to_have_text("You said: after the restart")


async def test_presets_fill_the_system_prompt_and_stay(visit: Visit, scripted: ScriptedEndpoint) -> None:
    await visit.page.get_by_role("button", name="Settings").first.click()
    prompt, preset = visit.page.get_by_label("System prompt"), visit.page.get_by_label("Preset")
    await preset.click()
    await visit.page.get_by_role("option", name="Brief").click()
    await expect(prompt).to_have_value(re.compile("at most three sentences"))
    await prompt.fill("Talk like a pirate.")
    await preset.fill("Pirate")
    await visit.page.get_by_role("button", name="Save preset").click()
    await expect(visit.page.get_by_text("Preset “Pirate” is kept")).to_be_visible()
    await visit.reload()
    await visit.page.get_by_role("button", name="Settings").first.click()
    await expect(prompt).to_have_value("")
    await preset.click()
    await visit.page.get_by_role("option", name="Pirate").click()
    await expect(prompt).to_have_value("Talk like a pirate.")
    await visit.ask("hello")
    assert scripted.requests[-1]["messages"][0] == {"role": "system", "content": "Talk like a pirate."}


async def test_settings_are_sent_and_survive_a_reload(visit: Visit, scripted: ScriptedEndpoint) -> None:
    await visit.page.get_by_role("button", name="Settings").first.click()
    await expect(visit.page.get_by_label("as trained", exact=True)).to_be_checked()
    for label, text in (("Seed", "7"), ("Stop at", "END"), ("JSON schema of the answer", '{"type": "object"}')):
        async with keeps_settings(visit):
            await visit.page.get_by_label(label).fill(text)
            await visit.page.get_by_label(label).blur()
    async with keeps_settings(visit):
        await visit.page.get_by_label("high", exact=True).check()
    await visit.reload()
    await visit.ask("hello")
    sent = scripted.requests[-1]
    assert (sent["seed"], sent["stop"], sent["reasoning_effort"]) == (7, ["END"], "high")
    assert sent["response_format"]["json_schema"]["schema"] == {"type": "object"}


@asynccontextmanager
async def keeps_settings(visit: Visit) -> AsyncIterator[None]:
    """Waits until the browser has kept the settings that are changed in it."""
    kept = "localStorage.getItem('tuneyard-settings')"
    before = await visit.evaluate(kept)
    yield
    await visit.page.wait_for_function(f"before => {kept} !== before", arg=before)
