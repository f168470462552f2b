from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given

from tests.ui.chat.trees import conversations
from ui.chat.conversations.conversation import Conversation, Node, ToolCall
from ui.chat.conversations.messages import exported_messages, request_messages


def check_tool_messages(messages: list[dict[str, Any]]) -> None:
    """Each call is answered before the next message of another role, and each result answers a call: OpenAI's rule."""
    waiting: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] in waiting
            waiting.discard(message["tool_call_id"])
            continue
        assert waiting == set()
        waiting = {call["id"] for call in message.get("tool_calls", ())}
    assert waiting == set()


@given(conversations())
def test_requests_and_rows_keep_openais_rules(conversation: Conversation) -> None:
    for messages in (request_messages(conversation), exported_messages(conversation)):
        check_tool_messages(messages)
        assert all(message["content"] or message.get("tool_calls") for message in messages)


@given(conversations())
def test_a_row_ends_with_an_answer_and_alternates(conversation: Conversation) -> None:
    messages = exported_messages(conversation)
    roles = [message["role"] for message in messages if message["role"] in ("user", "assistant")]
    if messages:
        assert messages[-1]["role"] == "assistant"
        assert roles[0] == "user"
    assert not any(first == second == "user" for first, second in itertools.pairwise(roles))


def test_requests_hold_the_question_and_no_reasoning() -> None:
    conversation = Conversation(system_prompt="Be brief.")
    first = conversation.add(Node(role="user", text="first"), None)
    answer = conversation.add(Node(role="assistant", text="one", reasoning="hm", state="stopped"), first.id)
    refused = conversation.add(Node(role="user", text="too long"), answer.id)
    failed = conversation.add(Node(role="assistant", state="failed", error="refused"), refused.id)
    conversation.add(Node(role="user", text="second"), failed.id)
    assert request_messages(conversation) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "second"},
    ]
    assert exported_messages(conversation) == []


def test_a_tool_call_is_sent_with_its_result() -> None:
    conversation = Conversation()
    question = conversation.add(Node(role="user", text="weather?"), None)
    call = ToolCall(call_id="call_1", name="get_weather", arguments="{}")
    conversation.add(Node(role="assistant", tool_calls=[call]), question.id)
    assert request_messages(conversation) == [{"role": "user", "content": "weather?"}]
    conversation.add(Node(role="tool", text="sunny", call_id="call_1"), conversation.leaf)
    _, called, result = request_messages(conversation)
    assert called["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": "{}"}
    assert result == {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
