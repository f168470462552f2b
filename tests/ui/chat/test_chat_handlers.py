"""The Chat page's handlers, without a browser; tests/ui/browser has the page in a real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from tests.ui.scripted_endpoint import ScriptedEndpoint
from ui.chat.chat_handlers import ChatHandlers, Values
from ui.chat.chat_page import ChatPage
from ui.chat.conversations.conversation import Conversation, Node
from ui.endpoints.chat_client import ChatClient
from ui.page_context import PageContext


@dataclass
class Browser:
    """Stands in for the browser: holds the value of each component and applies the updates that handlers yield."""

    handlers: ChatHandlers
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
        messages = updates.get(self.handlers.on.chat)
        if isinstance(messages, list):  # an update without a value shows nothing
            self.shown.append(messages)

    async def open(self) -> None:
        on = self.handlers.on
        self.values = {
            on.question: "", on.book: {"conversation": None, "editing": None}, on.model: None, on.kept_model: "",
            on.panel.system_prompt: "Be brief.",
            **dict(zip(on.panel.fields, (1, 1, None, "low", None, "", "", ""), strict=True)),
        }  # fmt: skip
        self.apply(await self.handlers.list_models(self.values, self))

    async def run(self, updates: AsyncIterator[Values]) -> None:
        """Runs a handler, then the one that follows the answer, as the page's events do."""
        for stream in (updates, self.handlers.follow(self)):
            async for update in stream:
                self.apply(update)

    async def ask(self, question: str) -> None:
        self.values[self.handlers.on.question] = question
        await self.run(self.handlers.ask(dict(self.values), self))

    async def act(self, **what: Any) -> None:
        await self.run(self.handlers.act(dict(self.values), SimpleNamespace(_data=what), self))

    @property
    def conversation(self) -> Conversation:
        return Conversation.from_json(self.values[self.handlers.on.book]["conversation"])

    @property
    def last(self) -> Node:
        return self.conversation.path()[-1]

    @property
    def problem(self) -> str:
        return str(self.values[self.handlers.on.problem])


@pytest.fixture
async def browser(client: ChatClient) -> Browser:
    """A freshly opened page of the scripted endpoint."""
    with gr.Blocks() as blocks:
        opened = Browser(ChatPage(PageContext(client=client, title="Test")).build(blocks))
    await opened.open()
    return opened


async def test_the_first_model_is_preselected_and_a_selection_is_never_replaced(
    browser: Browser, endpoint: ScriptedEndpoint
) -> None:
    model = browser.handlers.on.model
    assert browser.values[model] == f"{endpoint.base_url} smol-oss-135m"
    endpoint.models.append("gpt-oss-20b")
    browser.values[model] = f"{endpoint.base_url} gone"
    browser.apply(await browser.handlers.list_models(browser.values, browser))
    assert browser.values[model] is None
    assert "gone is no longer served" in browser.problem
    browser.values[model] = f"{endpoint.base_url} gpt-oss-20b"
    browser.apply(await browser.handlers.list_models(browser.values, browser))
    assert browser.values[model] == f"{endpoint.base_url} gpt-oss-20b"
    browser.values |= {model: None, browser.handlers.on.kept_model: f"{endpoint.base_url} gpt-oss-20b"}
    browser.apply(await browser.handlers.list_models(browser.values, browser))
    assert browser.values[model] == f"{endpoint.base_url} gpt-oss-20b", "the model chosen last was forgotten"


async def test_an_answer_is_shown_while_it_streams(browser: Browser, endpoint: ScriptedEndpoint) -> None:
    endpoint.delay_s = 0.01
    await browser.ask("Give me an overview")
    question, waiting = browser.shown[0]
    assert "Give me an overview" in question["content"]["value"]
    assert "Waiting for the first token" in waiting["content"]["value"]
    assert len(browser.shown) > 3
    _, reasoning, answer, tools = browser.shown[-1]
    assert reasoning["metadata"]["status"] == "done"
    assert answer["content"]["text"].startswith("Three things matter:")
    assert "40 tokens, prompt 12" in tools["content"]["value"]
    assert browser.values[browser.handlers.on.question] == ""


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


async def test_an_error_keeps_the_text_and_retry_adds_an_alternative(
    browser: Browser, endpoint: ScriptedEndpoint
) -> None:
    await browser.ask("please do not crash")
    assert browser.last.text == "You said: please do not crash"
    assert "broke in the middle" in browser.last.error
    await browser.act(act="retry", node=browser.last.id)
    assert len(browser.conversation.alternatives(browser.last)) == 2
    assert [request["messages"][-1]["content"] for request in endpoint.requests] == ["please do not crash"] * 2


async def test_an_edited_question_starts_a_branch(browser: Browser, endpoint: ScriptedEndpoint) -> None:
    await browser.ask("one")
    browser.values[browser.handlers.on.book]["editing"] = browser.conversation.path()[0].id
    await browser.ask("two")
    assert [node.text for node in browser.conversation.path()] == ["two", "You said: two"]
    assert len(browser.conversation.nodes) == 4
    assert endpoint.requests[-1]["messages"][1:] == [{"role": "user", "content": "two"}]


async def test_a_question_asked_at_once_in_a_new_conversation_is_drawn_by_the_follower_of_its_opening(
    browser: Browser,
) -> None:
    """Gradio's events overlap: the follower of `open` may come after `ask` has begun, and follows its answer then."""
    on = browser.handlers.on
    await browser.ask("an earlier one")
    browser.values[on.book] = {"conversation": Conversation().to_json(), "editing": None}
    browser.values[on.question] = "hello"
    for updates in (
        browser.handlers.open(dict(browser.values), browser),
        browser.handlers.ask(dict(browser.values), browser),
        browser.handlers.follow(browser),
        browser.handlers.follow(browser),
    ):
        async for update in updates:
            browser.apply(update)
    assert [node.text for node in browser.conversation.path()] == ["hello", "You said: hello"]
    assert "hello" in str(browser.shown[-1])


async def test_stop_keeps_the_text_so_far_and_closes_the_connection(
    browser: Browser, endpoint: ScriptedEndpoint
) -> None:
    asking = asyncio.create_task(browser.ask("go on forever"))
    while not (browser.shown and "and so on" in str(browser.shown[-1])):
        await asyncio.sleep(0.02)
    await browser.handlers.stop(browser.values, browser)
    await asyncio.wait_for(asking, 5)
    assert browser.last.text.startswith("and so on")
    assert browser.last.state == "stopped"
    assert await asyncio.to_thread(endpoint.closed_early.wait, 5)


async def test_an_answer_that_the_server_lost_is_shown_as_stopped(browser: Browser) -> None:
    conversation = Conversation()
    question = conversation.add(Node(role="user", text="hello"), None)
    conversation.add(Node(role="assistant", text="half an ans", state="live"), question.id)
    browser.values[browser.handlers.on.book] = {"conversation": conversation.to_json()}
    await browser.run(browser.handlers.open(dict(browser.values), browser))
    assert browser.last.state == "stopped"


async def test_a_damaged_conversation_is_explained(browser: Browser) -> None:
    browser.values[browser.handlers.on.book] = {"conversation": {"nodes": [{"id": "a", "parent": "b", "role": "user"}]}}
    await browser.ask("hello")
    assert "the browser's copy of it is damaged" in browser.problem
    browser.shown.clear()
    await browser.run(browser.handlers.open(dict(browser.values), browser))
    assert browser.shown == [[]]


async def test_an_empty_question_sends_no_request(browser: Browser, endpoint: ScriptedEndpoint) -> None:
    await browser.ask("  \n")
    assert endpoint.requests == []
    assert browser.shown == []


async def test_no_model_is_explained_under_the_question(browser: Browser, endpoint: ScriptedEndpoint) -> None:
    endpoint.models.clear()
    browser.values[browser.handlers.on.model] = None
    await browser.ask("anyone?")
    assert "No model is selected" in browser.last.error
    assert "serves no model" in browser.problem


async def test_a_model_deployed_after_the_page_was_opened_is_found(browser: Browser) -> None:
    browser.values[browser.handlers.on.model] = None
    await browser.ask("hello")
    assert browser.last.text == "You said: hello"
