"""The samples of each training row: one of a turn, two of a preference pair."""

from __future__ import annotations

from collections.abc import Iterator

from tuneyard.chats.messages import ChatExample
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.loss_mask import TrainingSample

PAIR_NAMES = ("chosen answer", "rejected answer")
"""What the samples of a pair are, in their order."""


def render_rows(
    codec: HarmonyCodec, example: ChatExample, train_on_reasoning: bool = True
) -> Iterator[tuple[TrainingSample, ...]]:
    """The training rows of an example: one per trained turn, with its sample; of a pair one, with both answers'.

    The samples of a pair begin with the same tokens, those of their prompt. A pair of which an answer has weight 0
    gives no row.
    """
    if example.rejected is None:
        for sample in codec.render_for_training(example, train_on_reasoning):
            yield (sample,)
        return
    samples = tuple(
        sample for half in example.halves() for sample in codec.render_for_training(half, train_on_reasoning)
    )
    if len(samples) == len(PAIR_NAMES):
        yield samples


def name_samples(example: ChatExample, row: int) -> tuple[str, ...]:
    """Names for the samples of the example's `row`th training row, from 1, in messages to people."""
    return (f"turn {row}",) if example.rejected is None else PAIR_NAMES
