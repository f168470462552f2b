"""The loss mask: prompts have no loss, answers have, reasoning only if it is wanted."""

from __future__ import annotations

import pytest

from tuneyard.chats.messages import ChatMessage
from tuneyard.harmony.loss_mask import AnswerSegment, TrainingSample, build_training_sample, is_trained_turn


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (ChatMessage(role="assistant", content="a"), True),
        (ChatMessage(role="assistant", content="a", weight=1), True),
        (ChatMessage(role="assistant", content="a", weight=0), False),
        (ChatMessage(role="user", content="a"), False),
        (ChatMessage(role="tool", content="a"), False),
    ],
)
def test_assistant_messages_are_trained_unless_their_weight_is_0(message: ChatMessage, expected: bool) -> None:
    assert is_trained_turn(message) is expected


@pytest.mark.parametrize("train_on_reasoning", [True, False])
def test_the_prompt_has_no_loss_and_reasoning_only_if_wanted(train_on_reasoning: bool) -> None:
    answer = [AnswerSegment([3, 4], is_reasoning=True), AnswerSegment([5], is_reasoning=False)]
    sample = build_training_sample([1, 2], answer, train_on_reasoning=train_on_reasoning)
    mask = [False, False, train_on_reasoning, train_on_reasoning, True]
    assert sample == TrainingSample([1, 2, 3, 4, 5], mask)
