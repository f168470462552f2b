from __future__ import annotations

import asyncio

import pytest

from tests.ui.scripted_endpoint import ScriptedEndpoint
from ui.chat.conversations.conversation import Conversation, Node
from ui.chat.live_answers import LiveAnswers
from ui.endpoints.chat_client import ChatClient
from ui.endpoints.chat_request import ChatRequest
from ui.endpoints.served_models import ServedModel


def start(answers: LiveAnswers, endpoint: ScriptedEndpoint, question: str) -> Conversation:
    conversation = Conversation()
    asked = conversation.add(Node(role="user", text=question), None)
    node = conversation.add(Node(role="assistant"), asked.id)
    model = ServedModel("smol-oss-135m", endpoint.base_url)
    request = ChatRequest(model, [{"role": "user", "content": question}])
    answers.start("", conversation, node, request, None)
    return conversation


async def test_an_answer_that_nobody_watches_is_stopped(client: ChatClient, endpoint: ScriptedEndpoint) -> None:
    answers = LiveAnswers(client, unwatched_s=0.3, kept_s=0.3)
    conversation = start(answers, endpoint, "go on forever")
    assert await asyncio.to_thread(endpoint.closed_early.wait, 5)
    assert answers.find("", conversation.id) is not None
    await asyncio.sleep(0.5)
    assert answers.find("", conversation.id) is None
    assert conversation.nodes[-1].state == "stopped"


async def test_an_answer_survives_a_page_that_comes_back(client: ChatClient, endpoint: ScriptedEndpoint) -> None:
    answers = LiveAnswers(client, unwatched_s=0.5)
    conversation = start(answers, endpoint, "go on forever")
    for session in ("first", "second", "third"):
        watching = answers.watch("", conversation.id, session)
        await anext(watching)
        await asyncio.sleep(0.3)
        answers.leave(session)
        await asyncio.sleep(0.3)
        await watching.aclose()
    assert conversation.nodes[-1].state == "live"
    answers.stop("", conversation.id)
    assert await asyncio.to_thread(endpoint.closed_early.wait, 5)


async def test_an_answer_that_ended_unwatched_is_fetched_later(client: ChatClient, endpoint: ScriptedEndpoint) -> None:
    answers = LiveAnswers(client)
    conversation = start(answers, endpoint, "hello")
    await asyncio.sleep(0.3)
    seen = [answer.node.text async for answer in answers.watch("", conversation.id, "late")]
    assert seen[-1] == "You said: hello"
    assert answers.find("", conversation.id) is None


@pytest.mark.parametrize("owner", ["somebody", "else"])
async def test_others_cannot_reach_an_answer(client: ChatClient, endpoint: ScriptedEndpoint, owner: str) -> None:
    answers = LiveAnswers(client)
    conversation = start(answers, endpoint, "go on forever")
    answers.stop(owner, conversation.id)
    assert [answer async for answer in answers.watch(owner, conversation.id, "s")] == []
    assert conversation.nodes[-1].state == "live"
    answers.stop("", conversation.id)


async def test_the_wait_is_told_while_nothing_comes(client: ChatClient, endpoint: ScriptedEndpoint) -> None:
    answers = LiveAnswers(client)
    conversation = start(answers, endpoint, "late")
    waits = [round(a.waited_s, 1) async for a in answers.watch("", conversation.id, "s") if not a.writer.size]
    assert len(waits) >= 3
    assert waits == sorted(waits)
