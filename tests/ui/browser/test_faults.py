"""What was wrong with the page once, each held in a real browser."""

from __future__ import annotations

import asyncio
import re
import threading

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.ui.browser.visit import Visit
from tests.ui.page_process import PageServer
from tests.ui.scripted_endpoint import ScriptedEndpoint

SCROLLER = "document.querySelector('#chat [role=log]')"
BELOW = f"({SCROLLER}.scrollHeight - {SCROLLER}.scrollTop - {SCROLLER}.clientHeight)"
"""Pixels of the conversation below what is in sight."""

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_a_person_can_scroll_up_while_an_answer_streams(visit: Visit) -> None:
    await visit.ask("endless", wait=False)
    await visit.page.wait_for_function(f"{SCROLLER}.scrollHeight > 1500")
    await visit.scroller.hover()
    await visit.page.mouse.wheel(0, -500)
    await stays_while_the_answer_grows(visit)
    await visit.page.mouse.wheel(0, 100_000)
    await grows(visit)
    await visit.page.wait_for_function(f"{BELOW} < 60")
    await visit.stop_button.click()
    await visit.idle()


async def test_a_finger_can_scroll_up_while_an_answer_streams(phone: BrowserContext, server: PageServer) -> None:
    visit = await Visit.open(await phone.new_page(), server.url)
    await visit.ask("endless", wait=False)
    await visit.page.wait_for_function(f"{SCROLLER}.scrollHeight > 1800")
    finger = await phone.new_cdp_session(visit.page)
    await finger.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": 200, "y": 200}]})
    for y in range(210, 700, 25):
        await finger.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": 200, "y": y}]})
        await asyncio.sleep(0.016)
    await finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    await stays_while_the_answer_grows(visit)
    await visit.stop_button.click()
    await visit.idle()
    visit.check_console()


async def grows(visit: Visit, pixels: int = 600) -> None:
    """Waits until the answer has grown by that much."""
    height = int(await visit.evaluate(f"{SCROLLER}.scrollHeight"))
    await visit.page.wait_for_function(f"{SCROLLER}.scrollHeight > {height + pixels}")


async def stays_while_the_answer_grows(visit: Visit) -> None:
    """Fails if the view moves once a person's scrolling, which may glide on for a while, has come to rest."""
    await visit.page.wait_for_function(
        f"() => new Promise(rest => {{ const top = {SCROLLER}.scrollTop;"
        f" setTimeout(() => rest({SCROLLER}.scrollTop === top), 150); }})"
    )
    before = await visit.evaluate(f"{SCROLLER}.scrollTop")
    await grows(visit)
    assert await visit.evaluate(f"{SCROLLER}.scrollTop") <= before, "the page has jumped towards the end"
    assert await visit.evaluate(BELOW) > 600


async def test_html_of_a_model_is_text(visit: Visit) -> None:
    before = await visit.page.title()
    requested: list[str] = []
    visit.page.on("request", lambda request: requested.append(request.url))
    await visit.ask("show me html")
    text = await visit.answers.first.inner_text()
    for shown in (
        '<div style="position:fixed;inset:0;background:red">COVER</div>',
        '<input type="password"',
        "<script>",
    ):
        assert shown in text
    assert "<b>code</b>" in text
    assert '<p class="x">kept &amp; whole</p>' in text
    chat = visit.page.locator("#chat .message-content")
    for tag in ("img", "form", "input", "script", "style", "iframe"):
        await expect(chat.locator(tag)).to_have_count(0)
    assert not [url for url in requested if "leak" in url or "markdown" in url]
    await visit.page.get_by_text("click", exact=True).click()
    assert await visit.page.title() == before
    await expect(visit.composer).to_be_visible()


async def test_operators_and_tags_in_prose_stay(visit: Visit) -> None:
    await visit.ask("operators")
    await expect(visit.answers.first).to_contain_text("done.")
    text = (await visit.answers.first.inner_text()).replace("\n", "")
    assert "if a<b and c>d then use <div> or x<y>z" in text
    assert "R&D < done" in text
    await expect(visit.answers.first.locator(".katex")).to_have_count(1)
    assert "\u2060" not in await visit.answers.first.inner_html()


async def test_the_page_shows_that_it_waits(visit: Visit, scripted: ScriptedEndpoint) -> None:
    scripted.held = threading.Event()
    try:
        await visit.ask("late", wait=False)
        waiting = visit.page.locator(".ty-waiting")
        await expect(waiting).to_have_text(re.compile(r"Waiting for the first token · [1-9]\d* s"))
    finally:
        scripted.held.set()
        scripted.held = None
    await visit.idle()
    await expect(waiting).to_have_count(0)


async def test_a_long_question_keeps_caret_and_button_in_sight(visit: Visit) -> None:
    await visit.composer.fill("\n".join(f"line {number}" for number in range(40)))
    await visit.composer.press("End")
    box = await visit.composer.bounding_box()
    button = await visit.send_button.bounding_box()
    assert box is not None
    assert button is not None
    assert box["height"] <= 800 / 3 + 1
    assert box["height"] > 200
    assert button["y"] + button["height"] <= 800
    assert await visit.evaluate("document.scrollingElement.scrollHeight <= innerHeight")
    # The caret's line is in sight: the box is scrolled to its end.
    assert await visit.composer.evaluate("box => box.scrollHeight - box.scrollTop - box.clientHeight < 30")


async def test_settings_open_in_sight(visit: Visit) -> None:
    await visit.page.get_by_role("button", name="Settings").first.click()
    prompt = visit.page.get_by_label("System prompt")
    await expect(prompt).to_be_in_viewport()
    await visit.page.keyboard.press("Escape")
    await expect(prompt).not_to_be_in_viewport()


async def test_a_reload_keeps_the_conversation(visit: Visit) -> None:
    await visit.ask("hello there")
    await visit.reload()
    await expect(visit.questions).to_have_text(["hello there"])
    await expect(visit.answers.last).to_contain_text("You said: hello there")


async def test_a_reload_in_mid_answer_goes_on_with_it(visit: Visit) -> None:
    await visit.ask("endless", wait=False)
    await expect(visit.answers.last).to_contain_text("Line 20")
    await visit.reload()
    shown = int(re.findall(r"Line (\d+)", await visit.answers.last.inner_text())[-1])
    await expect(visit.answers.last).to_contain_text(f"Line {shown + 40}")
    await visit.stop_button.click()
    await visit.idle()
    await expect(visit.page.locator(".ty-facts").last).to_contain_text("stopped")


async def test_back_shows_the_conversation_before(visit: Visit) -> None:
    await visit.ask("first conversation")
    await visit.page.get_by_role("button", name="New chat").click()
    await expect(visit.questions).to_have_count(0)
    await visit.ask("second conversation")
    await visit.page.go_back()
    await expect(visit.questions).to_have_text(["first conversation"])
    async with visit.loaded_anew():
        await visit.page.goto("about:blank")
        await visit.page.go_back()
    await expect(visit.questions).to_have_text(["first conversation"])


async def test_a_new_chat_in_mid_answer_shows_no_error(visit: Visit) -> None:
    for number in range(4):
        await visit.ask(f"{number}: go on forever", wait=False)
        await expect(visit.answers.last).to_contain_text("and so on")
        await visit.page.get_by_role("button", name="New chat").click()
        await expect(visit.questions).to_have_count(0)
        await expect(visit.send_button).to_be_visible()
    await expect(visit.page.get_by_text("Error", exact=True)).to_have_count(0)


async def test_a_wrong_setting_is_explained_and_hides_nothing(visit: Visit) -> None:
    await visit.ask("hello")
    await visit.page.get_by_role("button", name="Settings").first.click()
    limit = visit.page.get_by_label("Max tokens")
    await limit.fill("-5")
    await limit.blur()
    await visit.composer.fill("too short")
    await visit.composer.press("Enter")
    await expect(visit.page.locator("#problem")).to_contain_text("Max tokens is -5; it must be a whole number from 1")
    await expect(visit.questions).to_have_text(["hello"])
    await expect(visit.composer).to_have_value("too short")
    await limit.fill("5")
    await limit.blur()
    await visit.composer.press("Enter")
    await expect(visit.questions).to_have_text(["hello", "too short"])
    await expect(visit.page.locator("#problem")).to_be_hidden()


async def test_copy_takes_the_answer_and_nothing_else(visit: Visit) -> None:
    await visit.ask("Give me an overview")
    copied = await visit.copied_by(visit.page.get_by_role("button", name="Copy answer"))
    assert copied.startswith("Three things matter:\n\n1. **Tokens**")
    assert copied.endswith("| answer | 3.4 |\n")
    code = await visit.copied_by(visit.page.get_by_role("button", name="Copy code"))
    assert code == 'def greet(name: str) -> str:\n    return f"Hello, {name}!"'


async def test_right_to_left_text_is_laid_out_so(visit: Visit) -> None:
    await visit.ask("مرحبا arabic")
    layout = """element => {
      const range = document.createRange(); range.selectNodeContents(element);
      const text = range.getBoundingClientRect(), box = element.getBoundingClientRect();
      return [text.left - box.left, box.right - text.right];
    }"""
    paragraphs = visit.answers.first.locator("p")
    left, right = await paragraphs.first.evaluate(layout)
    assert right < 2 < left
    left, right = await paragraphs.last.evaluate(layout)
    assert left < 2 < right
    assert await visit.answers.first.locator("ul").evaluate("list => getComputedStyle(list).direction") == "rtl"
    assert await visit.answers.first.locator("table").evaluate("made => getComputedStyle(made).direction") == "rtl"
    assert await visit.questions.first.evaluate("box => getComputedStyle(box).direction") == "rtl"


async def test_words_without_an_end_stay_in_the_column(visit: Visit) -> None:
    await visit.ask("words")
    wider = """answer => [...answer.querySelectorAll("*")].filter(part => {
      const range = document.createRange(); range.selectNodeContents(part);
      return range.getBoundingClientRect().right > answer.getBoundingClientRect().right + 1;
    }).map(part => part.tagName)"""
    assert await visit.answers.first.evaluate(wider) == []


async def test_tables_on_a_phone_break_no_words(phone: BrowserContext, server: PageServer) -> None:
    visit = await Visit.open(await phone.new_page(), server.url)
    await visit.ask("table")
    table = visit.answers.first.locator("table")
    widths = await table.locator("th").evaluate_all("cells => cells.map(cell => cell.getBoundingClientRect().width)")
    assert min(widths) > 60
    heights = await table.locator("th").evaluate_all("cells => cells.map(cell => cell.getBoundingClientRect().height)")
    assert max(heights) < 130
    assert await visit.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert await table.evaluate("table => table.scrollWidth > table.clientWidth")
    visit.check_console()


async def test_reasoning_in_vllms_field_is_shown(visit: Visit) -> None:
    await visit.ask("as of vllm")
    step = visit.page.get_by_role("button", name="Reasoning")
    await step.click()
    await expect(visit.page.locator(".thought-group .content")).to_contain_text("Thought in the other field.")


async def test_the_document_names_us_and_loads_nothing_else(visit: Visit) -> None:
    assert await visit.page.title() == "Brindle support"
    head = await visit.evaluate("document.head.innerHTML")
    metas = await visit.evaluate("[...document.querySelectorAll('meta')].map(meta => meta.content).join(' | ')")
    assert "gradio" not in metas.lower()
    assert "iframeResizer" not in head
    icon = await visit.evaluate("document.querySelector('link[rel=icon]').href")
    response = await visit.page.request.get(icon)
    assert (response.status, response.headers["content-type"]) == (200, "image/svg+xml")


async def test_a_dark_page_is_dark_before_gradio_has_started(browser: Browser, server: PageServer) -> None:
    context = await browser.new_context(color_scheme="dark")
    page = await context.new_page()
    await page.route("**/assets/*.js", lambda route: route.abort())
    await page.goto(server.url)
    await expect(page.locator("#ty-splash")).to_be_visible()
    assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 22, 21)"
    await context.close()


async def test_two_models_of_one_id_look_different(scripted: ScriptedEndpoint, page: Page) -> None:
    second = PageServer(("--base-url", scripted.base_url, "--base-url", scripted.base_url.replace("/v1", "/base/v1")))
    await asyncio.to_thread(second.start)
    try:
        visit = await Visit.open(page, second.url)
        await visit.page.locator("#model input").click()
        options = await visit.page.get_by_role("option").all_inner_texts()
        assert len(set(options)) == 2, options
        assert any("/base" in option for option in options)
    finally:
        await asyncio.to_thread(second.stop)
