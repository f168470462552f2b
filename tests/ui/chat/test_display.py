from __future__ import annotations

from hypothesis import given

from tests.ui.chat.trees import conversations
from ui.chat.conversations.conversation import AnswerFacts, Conversation, Node, ToolCall
from ui.chat.display import display_messages
from ui.chat.message_tools import fact_notes, lineage_notes


def html_of(conversation: Conversation) -> str:
    contents = [message["content"] for message in display_messages(conversation)]
    return "".join(content["value"] for content in contents if content["type"] == "component")


@given(conversations())
def test_every_conversation_can_be_drawn(conversation: Conversation) -> None:
    messages = display_messages(conversation)
    assert len(messages) >= sum(node.role != "tool" for node in conversation.path())
    assert all(message["role"] in ("user", "assistant") for message in messages)


def test_what_people_and_servers_write_is_escaped() -> None:
    attack = '"><img src=x onerror=alert(1)>'
    conversation = Conversation()
    question = conversation.add(Node(role="user", text=attack), None)
    facts = AnswerFacts(version=attack, run=attack, dataset=attack, finish_reason=attack)
    calls = [ToolCall(call_id=attack, name=attack)]
    answer = Node(role="assistant", model_id=attack, facts=facts, state="failed", error=attack, tool_calls=calls)
    conversation.add(answer, question.id)
    drawn = html_of(conversation)
    assert "<img" not in drawn
    assert drawn.count("&lt;img") >= 6
    steps = [message for message in display_messages(conversation) if "metadata" in message]
    assert all("<img" not in message["metadata"]["title"] for message in steps)


def test_reasoning_is_open_while_it_grows_and_folded_with_its_time() -> None:
    conversation = Conversation()
    question = conversation.add(Node(role="user", text="why?"), None)
    node = conversation.add(Node(role="assistant", reasoning="let me see", state="live"), question.id)
    assert display_messages(conversation)[-1]["metadata"] == {"title": "Reasoning", "status": "pending"}
    node.reasoning_s = 4.2
    assert display_messages(conversation)[-1]["metadata"] == {"title": "Reasoning · 4 s", "status": "done"}


def test_the_facts_of_an_answer() -> None:
    facts = AnswerFacts(
        finish_reason="length", prompt_tokens=1200, completion_tokens=33, first_token_s=0.5, tokens_per_s=16.0,
        version="brindle/3", run="r1", dataset="0123456789abcdef",
    )  # fmt: skip
    node = Node(role="assistant", model_id="smol", text="a", facts=facts)
    assert fact_notes(node) == [
        "smol", "cut at the token limit", "33 tokens, prompt 1,200", "16.0 tokens/s", "first after 0.50 s",
    ]  # fmt: skip
    assert lineage_notes(facts) == ["brindle/3", "run r1", "dataset 01234567"]
    of_mlflow = facts.model_copy(update={"run": "66bae8d45aaf441187014b88f4709e77"})
    assert lineage_notes(of_mlflow)[1] == "run 66bae8d4"
    assert fact_notes(Node(role="assistant", model_id="smol")) == ["smol", "no answer"]
