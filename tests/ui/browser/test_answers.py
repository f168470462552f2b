"""What is shown of an answer: steps, tool calls, facts, lineage, errors; many at once."""

from __future__ import annotations

import json
import re

import pytest
from playwright.async_api import expect

from tests.ui.browser.visit import Visit
from tests.ui.scripted_endpoint import ScriptedEndpoint

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_reasoning_is_one_slim_line(visit: Visit) -> None:
    await visit.ask("Give me an overview")
    title = visit.page.locator(".thought-group > .title")
    await expect(title).to_have_text(re.compile(r"Reasoning · \d(\.\d)? s"))
    box = await title.bounding_box()
    assert box is not None
    assert box["height"] < 36
    await title.press("Space")
    await expect(visit.page.locator(".thought-group .content")).to_contain_text("three pillars")
    assert await title.get_attribute("aria-expanded") == "true"


MOVES = """async () => {
  const title = document.querySelector(".thought-group > .title"), retry = document.querySelector("[data-act=retry]");
  const heights = new Set(), end = performance.now() + 600;
  title.click();
  await new Promise(requestAnimationFrame);
  while (performance.now() < end) {
    await new Promise(requestAnimationFrame);
    heights.add(Math.round(retry.getBoundingClientRect().y - title.getBoundingClientRect().y));
  }
  return [...heights];
}"""
"""Opens or closes the reasoning; how far below its title the button Retry is meanwhile, each place once, in pixels."""


async def test_what_is_below_the_reasoning_moves_once_when_it_opens_and_closes(visit: Visit) -> None:
    await visit.ask("Give me an overview")
    (opened,) = await visit.evaluate(MOVES)
    (closed,) = await visit.evaluate(MOVES)
    assert opened > closed + 40


async def test_a_tool_call_is_a_step_whose_result_is_typed_in(visit: Visit, scripted: ScriptedEndpoint) -> None:
    await visit.page.get_by_role("button", name="Settings").first.click()
    await visit.page.get_by_label("Tools").fill('[{"name": "get_weather", "parameters": {"type": "object"}}]')
    await visit.page.keyboard.press("Escape")
    await visit.ask("weather")
    assert scripted.requests[-1]["tools"][0]["function"]["name"] == "get_weather"
    step = visit.page.get_by_role("button", name="Tool · get_weather")
    await step.click()
    await expect(visit.page.locator(".thought-group .content")).to_contain_text('"city": "Paris"')
    await visit.page.get_by_role("button", name="Give the result").click()
    await visit.page.get_by_role("textbox", name="Result of get_weather").fill("sunny")
    await visit.page.get_by_role("button", name="Send to the model").click()
    await expect(visit.answers.last).to_have_text("It is sunny in Paris.")
    await visit.idle()
    _, called, result = scripted.requests[-1]["messages"]
    assert json.loads(called["tool_calls"][0]["function"]["arguments"]) == {"city": "Paris", "unit": "celsius"}
    assert result == {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
    await expect(visit.page.get_by_role("button", name="Give the result")).to_have_count(0)


async def test_facts_and_lineage_are_shown_and_copied(visit: Visit) -> None:
    await visit.ask("hello")
    facts = visit.page.locator(".ty-facts")
    await expect(facts).to_contain_text("smol-oss-135m")
    await expect(facts).to_contain_text("40 tokens, prompt 12")
    await expect(facts).to_contain_text("tokens/s")
    await expect(facts).to_contain_text("first after 0.")
    lineage = json.loads(await visit.copied_by(visit.page.get_by_role("button", name="Copy the lineage")))
    assert lineage["version"] == "brindle/3"
    assert lineage["run"] == "brindle-20261101"
    assert lineage["dataset"] == "5f2c9a7be01d4c33"


@pytest.mark.parametrize(
    ("script", "message"),
    [("busy", "The model is busy"), ("crash", "The text so far is kept"), ("fail", "The engine ran out of memory")],
)
async def test_an_error_stands_under_its_question(visit: Visit, script: str, message: str) -> None:
    await visit.ask(f"please {script}")
    await expect(visit.page.locator(".bot-row .ty-error")).to_contain_text(message)
    await expect(visit.page.get_by_role("button", name="Retry")).to_be_visible()


async def test_stop_keeps_the_text_and_closes_the_stream(visit: Visit, scripted: ScriptedEndpoint) -> None:
    scripted.closed_early.clear()
    await visit.ask("go on forever", wait=False)
    await expect(visit.answers.last).to_contain_text("and so on")
    await visit.stop_button.click()
    await visit.idle()
    assert scripted.closed_early.wait(5)
    await expect(visit.answers.last).to_contain_text("and so on")
    await expect(visit.page.locator(".ty-facts")).to_contain_text("stopped")
    await expect(visit.composer).to_be_focused()
