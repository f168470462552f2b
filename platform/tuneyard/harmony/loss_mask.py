"""The loss mask: which tokens of a chat the model is trained to produce.

Trained are the tokens that the model itself must produce: those of assistant messages, from behind the header
`<|start|>assistant` of the first one up to and including `<|return|>` or `<|call|>`. Not trained are prompts, assistant
messages of weight 0, and, if `train_on_reasoning` is off, reasoning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuneyard.chats.messages import ChatMessage


@dataclass(frozen=True, slots=True)
class TrainingSample:
    """The tokens of one assistant turn after its prompt. `loss_mask[i]` is true if `token_ids[i]` is trained."""

    token_ids: list[int]
    loss_mask: list[bool]


@dataclass(frozen=True, slots=True)
class AnswerSegment:
    """The tokens of one harmony message of an answer."""

    token_ids: list[int]
    is_reasoning: bool


def is_trained_turn(message: ChatMessage) -> bool:
    """Whether the message gets a training sample: an assistant message whose weight is not 0."""
    return message.role == "assistant" and message.weight != 0


def build_training_sample(
    prompt: Sequence[int], answer: Sequence[AnswerSegment], *, train_on_reasoning: bool
) -> TrainingSample:
    """The prompt without loss, then the answer's segments with loss; reasoning only if `train_on_reasoning`."""
    token_ids, loss_mask = list(prompt), [False] * len(prompt)
    for segment in answer:
        token_ids += segment.token_ids
        loss_mask += [train_on_reasoning or not segment.is_reasoning] * len(segment.token_ids)
    return TrainingSample(token_ids, loss_mask)
