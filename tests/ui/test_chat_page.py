from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.ui.scripted_endpoint import ScriptedEndpoint
from ui.chat_client import ChatClient
from ui.chat_page import ChatPage, Values
from ui.transcript import Turn


@dataclass
class Browser:
    """Stands in for the browser: holds the value of each component and applies the updates that handlers yield."""

    page: ChatPage
    session_hash: str = "a-session"
    values: Values = field(default_factory=dict)
    shown: list[list[dict[str, Any]]] = field(default_factory=list)

    def apply(self, updates: Values) -> None:
        for component, update in updates.items():
            if isinstance(update, dict) and update.get("__type__") == "update":
                if "value" in update:
                    self.values[component] = update["value"]
            else:
                self.values[component] = update
        if self.page.chat in updates:
            self.shown.append(updates[self.page.chat])

    async def open(self) -> None:
        page = self.page
        self.values = {
            page.question: "", page.turns: [], page.model: None, page.chat: [], page.system_prompt: "Be brief.",
            page.temperature: 1, page.top_p: 1, page.max_tokens: 0, page.effort: "low",
        }  # fmt: skip
        self.apply(await page.list_models(self.values))

    async def ask(self, question: str) -> None:
        self.values[self.page.question] = question
        async for updates in self.page.ask(dict(self.values), self):
            self.apply(updates)

    @property
    def turns(self) -> list[Turn]:
        turns: list[Turn] = self.values[self.page.turns]
        return turns


@pytest.fixture
async def browser(client: ChatClient) -> Browser:
    """A freshly opened page of the scripted endpoint."""
    opened = Browser(ChatPage(client, title="Test"))
    await opened.open()
    return opened


async def test_the_first_model_is_preselected_and_a_selection_is_never_replaced(
    browser: Browser, endpoint: ScriptedEndpoint
) -> None:
    assert browser.values[browser.page.model] == f"{endpoint.base_url} smol-oss-135m"
    endpoint.models.append("gpt-oss-20b")
    await browser.open()
    assert browser.values[browser.page.model] == f"{endpoint.base_url} smol-oss-135m"
    browser.values[browser.page.model] = f"{endpoint.base_url} gone"
    browser.apply(await browser.page.list_models(browser.values))
    assert browser.values[browser.page.model] is None
    assert "gone is no longer served" in browser.values[browser.page.problem]
    browser.values[browser.page.model] = f"{endpoint.base_url} gpt-oss-20b"
    browser.apply(await browser.page.list_models(browser.values))
    assert browser.values[browser.page.model] == f"{endpoint.base_url} gpt-oss-20b"


async def test_an_answer_is_shown_while_it_streams(browser: Browser, endpoint: ScriptedEndpoint) -> None:
    endpoint.delay_s = 0.01
    await browser.ask("Give me an overview")
    assert [message["content"] for message in browser.shown[0]] == ["Give me an overview"]
    assert len(browser.shown) > 3
    _, reasoning, answer, note = browser.shown[-1]
    assert reasoning["metadata"] == {"title": "Reasoning", "status": "done"}
    assert answer["content"].startswith("Three things matter:")
    assert note["content"].startswith("↳ smol-oss-135m · 40 tokens for a prompt of 12")
    assert browser.values[browser.page.question] == ""


async def test_requests_contain_the_earlier_turns(browser: Browser, endpoint: ScriptedEndpoint) -> None:
    await browser.ask("hello")
    await browser.ask("refuse")
    await browser.ask("again")
    assert endpoint.requests[-1]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "You said: hello"},
        {"role": "user", "content": "again"},
    ]


async def test_an_error_keeps_the_question_and_retry_sends_it_again(
    browser: Browser, endpoint: ScriptedEndpoint
) -> None:
    await browser.ask("please do not crash")
    assert [turn.question for turn in browser.turns] == ["please do not crash"]
    assert browser.turns[0].answer == "You said: please do not crash"
    assert "broke in the middle" in browser.shown[-1][-1]["content"]
    async for updates in browser.page.ask_again(dict(browser.values), browser):
        browser.apply(updates)
    assert len(browser.turns) == 1
    assert [request["messages"][-1]["content"] for request in endpoint.requests] == ["please do not crash"] * 2


async def test_stop_keeps_the_text_so_far_and_closes_the_connection(
    browser: Browser, endpoint: ScriptedEndpoint
) -> None:
    asking = asyncio.create_task(browser.ask("go on forever"))
    while not (browser.turns and browser.turns[0].answer):
        await asyncio.sleep(0.02)
    await browser.page.stop(browser)
    await asyncio.wait_for(asking, 5)
    assert browser.turns[0].answer.startswith("and so on")
    assert browser.turns[0].notes == ("stopped",)
    assert await asyncio.to_thread(endpoint.closed_early.wait, 5)


async def test_clear_during_an_answer_closes_the_connection(browser: Browser, endpoint: ScriptedEndpoint) -> None:
    answering = browser.page.ask(browser.values | {browser.page.question: "go on forever"}, browser)
    for _ in range(3):
        browser.apply(await anext(answering))
    await answering.aclose()  # what gradio does with a cancelled event
    browser.apply(await browser.page.clear_chat())
    assert browser.turns == []
    assert browser.shown[-1] == []
    assert await asyncio.to_thread(endpoint.closed_early.wait, 5)


async def test_an_empty_question_sends_no_request(browser: Browser, endpoint: ScriptedEndpoint) -> None:
    await browser.ask("  \n")
    assert browser.turns == []
    assert endpoint.requests == []


async def test_no_model_keeps_the_question(browser: Browser, endpoint: ScriptedEndpoint) -> None:
    endpoint.models.clear()
    browser.values[browser.page.model] = None
    await browser.ask("anyone?")
    assert "No model is selected" in str(browser.turns[0].error)
    assert "serves no model" in browser.values[browser.page.problem]


async def test_a_model_deployed_after_the_page_was_opened_is_found(browser: Browser) -> None:
    browser.values[browser.page.model] = None
    await browser.ask("hello")
    assert browser.turns[0].answer == "You said: hello"


async def test_equal_model_ids_are_labelled_with_their_endpoint(endpoint: ScriptedEndpoint) -> None:
    client = ChatClient([endpoint.base_url, endpoint.base_url.replace("127.0.0.1", "localhost")])
    page = ChatPage(client, title="Test")
    listed = await page.list_models({page.model: None})
    await client.aclose()
    labels = [label for label, _ in listed[page.model]["choices"]]
    assert labels[0].startswith("smol-oss-135m (127.0.0.1:")
    assert labels[1].startswith("smol-oss-135m (localhost:")
    assert listed[page.model]["value"] == f"{endpoint.base_url} smol-oss-135m"
