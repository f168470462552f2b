"""SharedInstructions: the system message of a dataset, and how it is shown."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tuneyard.chats.instructions import MAX_SHOWN, SharedInstructions, instructions_advice
from tuneyard.chats.messages import ChatExample, ChatMessage

BEGINNINGS = st.sampled_from(
    [
        ChatMessage(role="system", content="You answer for Acme."),
        ChatMessage(role="developer", content="You answer for Acme."),
        ChatMessage(role="system", content="You answer for Acme. "),
        ChatMessage(role="user", content="You answer for Acme."),
    ]
)


def chat(first: ChatMessage, question: str) -> ChatExample:
    asked, answered = ChatMessage(role="user", content=question), ChatMessage(role="assistant", content="a")
    return ChatExample(messages=(first, answered) if first.role == "user" else (first, asked, answered))


@given(st.lists(BEGINNINGS, max_size=4), st.text(max_size=3))
def test_the_message_is_shared_only_if_all_chats_begin_with_it(beginnings: list[ChatMessage], question: str) -> None:
    shared = SharedInstructions()
    for beginning in beginnings:
        shared.add(chat(beginning, question))
    texts = {beginning.content if beginning.role != "user" else None for beginning in beginnings}
    assert shared.text == (texts.pop() if len(texts) == 1 and len(beginnings) > 1 else None)


@given(st.text(max_size=MAX_SHOWN + 20))
def test_the_advice_is_one_printable_line_of_bounded_length(text: str) -> None:
    advice = instructions_advice(text)
    assert advice.isprintable()
    assert len(advice) < 12 * MAX_SHOWN
    assert ("…" in advice) == (len(text) > MAX_SHOWN or "…" in text)
