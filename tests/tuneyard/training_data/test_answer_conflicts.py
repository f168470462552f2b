"""Conflicting answers: only another answer to the same question counts."""

from __future__ import annotations

from tuneyard.chats.messages import ChatExample, ChatMessage
from tuneyard.training_data.answer_conflicts import ConflictFinder


def example(question: str, answer: str, number: int, reasoning: str | None = None) -> ChatExample:
    answered = ChatMessage(role="assistant", content=answer, reasoning_content=reasoning)
    return ChatExample(messages=(ChatMessage(role="user", content=question), answered), source=f"f:{number}")


def test_the_first_answer_counts_and_reasoning_does_not() -> None:
    finder = ConflictFinder()
    found = [
        finder.find_problem(row)
        for row in (
            example("q", "a", 1),
            example("q", "a", 2, reasoning="Hm."),
            example("r", "b", 3),
            example("q", "b", 4),
        )
    ]
    assert found[:3] == [None, None, None]
    assert found[3] is not None
    assert "row or line 1" in found[3].text
