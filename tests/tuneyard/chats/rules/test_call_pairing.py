"""Calls and their results: what cannot be paired, and several calls of one message in turn with their results."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.chats.messages import ChatMessage, FunctionCall, ToolCall
from tuneyard.chats.rules.call_pairing import find_pairing_problem, interleave_calls
from tuneyard.chats.rules.validation import find_call_problems

ASK = ChatMessage(role="user", content="?")


def calls(*ids: str) -> ChatMessage:
    made = tuple(ToolCall(id=id_, function=FunctionCall(name=f"f{id_}", arguments="{}")) for id_ in ids)
    return ChatMessage(role="assistant", content="I look.", reasoning_content="Look.", tool_calls=made)


def result(call_id: str | None, content: str = "x") -> ChatMessage:
    return ChatMessage(role="tool", tool_call_id=call_id, content=content)


def test_several_calls_become_call_and_result_in_turn() -> None:
    messages = [ASK, calls("a", "b"), result("b", "of b"), result("a", "of a"), ASK]
    assert find_pairing_problem(messages) is None
    _, first, of_a, second, of_b, _ = interleave_calls(messages)
    assert [call.id for call in first.tool_calls] == ["a"]
    assert (first.content, first.reasoning_content, of_a.content) == ("I look.", "Look.", "of a")
    assert [call.id for call in second.tool_calls] == ["b"]
    assert (second.content, second.reasoning_content, of_b.content) == ("", None, "of b")


@pytest.mark.parametrize(
    ("messages", "position", "text"),
    [
        ([calls("a", "b"), result("a")], 0, "calls 'fb' (id 'b'), but no result follows"),
        ([calls("a", "b"), result("a"), ASK], 2, "(user) comes before the result of the call of 'fb' (id 'b')"),
        ([calls("a", "b"), result("a"), result("a")], 2, "answers the call 'a' a second time"),
        ([calls("a", "b"), result("a"), result("c")], 2, "answers 'c', which is no call"),
        ([calls("a", "b"), result("a"), result(None)], 2, "has no tool_call_id"),
        ([calls("a", "a"), result("a")], 0, "has two calls with the id 'a'"),
        ([calls("a", ""), result("a")], 0, "the call of 'f' has no id"),
        ([calls("a"), result("b")], 1, "answers 'b', but the open call is 'a'"),
        ([calls("a"), result("a"), result("a")], 2, "the call of 'fa' before it already has its result"),
        ([ASK, result("a")], 1, "answers no call"),
    ],
)
def test_what_cannot_be_paired_is_named(messages: list[ChatMessage], position: int, text: str) -> None:
    problem = find_pairing_problem(messages)
    assert problem is not None
    assert (problem.position, text in problem.text) == (position, True), problem.text


@given(st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True), max_size=4), st.randoms())
def test_every_paired_history_becomes_one_call_at_a_time(groups: list[list[int]], random: object) -> None:
    messages = [ASK]
    for group in groups:
        ids = [str(number) for number in group]
        shuffled = list(ids)
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        messages += [calls(*ids), *(result(id_, f"of {id_}") for id_ in shuffled)]
    assert find_pairing_problem(messages) is None
    interleaved = interleave_calls(messages)
    assert list(find_call_problems(interleaved)) == []
    assert [m.content for m in interleaved if m.role == "tool"] == [f"of {n}" for group in groups for n in group]
    if all(len(group) == 1 for group in groups):
        assert interleaved == messages
