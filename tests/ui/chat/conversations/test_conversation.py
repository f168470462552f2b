from __future__ import annotations

import json

import pytest
from hypothesis import given
from pydantic import ValidationError

from tests.ui.chat.trees import conversations
from ui.chat.conversations.conversation import TITLE_CHARACTERS, Conversation, Node, ToolCall, title_of


@given(conversations())
def test_a_conversation_survives_the_browser(conversation: Conversation) -> None:
    kept = json.loads(json.dumps(conversation.to_json()))
    assert Conversation.from_json(kept) == conversation


@given(conversations())
def test_a_path_goes_from_a_first_node_to_the_leaf(conversation: Conversation) -> None:
    path = conversation.path()
    assert [node.parent for node in path] == [None, *(node.id for node in path)][: len(path)]
    assert (path[-1].id if path else None) == conversation.leaf


@given(conversations())
def test_showing_any_node_puts_it_on_the_path(conversation: Conversation) -> None:
    for node in list(conversation.nodes):
        conversation.show(node)
        assert node in conversation.path()
        assert node in conversation.alternatives(node)


def test_an_edited_question_branches_and_both_branches_stay() -> None:
    conversation = Conversation()
    first = conversation.add(Node(role="user", text="one"), None)
    conversation.add(Node(role="assistant", text="answer one"), first.id)
    second = conversation.add(Node(role="user", text="two"), first.parent)
    assert [node.text for node in conversation.path()] == ["two"]
    conversation.show(first)
    assert [node.text for node in conversation.path()] == ["one", "answer one"]
    assert conversation.alternatives(second) == [first, second]


def test_calls_are_open_until_each_has_a_result() -> None:
    conversation = Conversation()
    question = conversation.add(Node(role="user", text="weather?"), None)
    calls = [ToolCall(call_id="a", name="f"), ToolCall(call_id="b", name="g")]
    conversation.add(Node(role="assistant", tool_calls=calls), question.id)
    assert [call.call_id for call in conversation.open_calls()] == ["a", "b"]
    conversation.add(Node(role="tool", text="1", call_id="a"), conversation.leaf)
    assert [call.call_id for call in conversation.open_calls()] == ["b"]
    conversation.add(Node(role="tool", text="2", call_id="b"), conversation.leaf)
    assert conversation.open_calls() == []


@pytest.mark.parametrize(
    "nodes",
    [
        [{"id": "a", "role": "user", "parent": "b"}, {"id": "b", "role": "user", "parent": "a"}],
        [{"id": "a", "role": "user", "parent": "nobody"}],
        [{"id": "a", "role": "user"}, {"id": "a", "role": "user"}],
    ],
)
def test_a_damaged_tree_is_refused(nodes: list[dict[str, str]]) -> None:
    with pytest.raises(ValidationError, match="parent comes before"):
        Conversation.from_json({"id": "x", "nodes": nodes})


def test_a_title_is_the_questions_first_line() -> None:
    assert title_of("\n  Where is my order?\nIt is late.") == "Where is my order?"
    long = title_of("word " * 40)
    assert len(long) <= TITLE_CHARACTERS + 1
    assert long.endswith("word…")
