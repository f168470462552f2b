"""Statistics of a dataset for training: rows, turns, tokens, packs and steps."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from tuneyard.chats.messages import ChatExample
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.training_data.packing import pack_best_fit, packing_efficiency


@dataclass(frozen=True, slots=True)
class DatasetStats:
    """Statistics of one dataset, rendered for training.

    `rows` are chats, `turns` their assistant messages, `training_rows` the turns with loss. `longest` and `median` are
    tokens per training row. `histogram` maps each power of two to the number of training rows with at most so many
    tokens, and more than half of that. `packs`, the efficiencies and the steps leave out rows over `max_length`.
    `padding_efficiency` is the share of tokens that are no padding if rows are not packed.
    """

    rows: int
    turns: int
    training_rows: int
    tokens: int
    trained_tokens: int
    longest: int
    median: int
    over_max_length: int
    max_length: int
    histogram: dict[int, int]
    packs: int
    packing_efficiency: float
    padding_efficiency: float
    steps_per_epoch: int
    steps_per_epoch_packed: int
    batch_size: int

    @property
    def assistant_share(self) -> float:
        """The share of the tokens that have loss, 0 to 1."""
        return self.trained_tokens / self.tokens if self.tokens else 0.0

    def as_json(self) -> dict[str, Any]:
        """All fields and `assistant_share`, for JSON output."""
        return asdict(self) | {"assistant_share": self.assistant_share}


def collect_stats(
    examples: Iterable[ChatExample], codec: HarmonyCodec, max_length: int, batch_size: int
) -> DatasetStats:
    """The statistics of the examples. `batch_size` is the number of rows per step on all workers together.

    Memory: a few hundred bytes per training row, to find the packs.
    """
    rows = turns = trained = 0
    lengths = array("i")
    for example in examples:
        rows += 1
        turns += sum(message.role == "assistant" for message in example.messages)
        for sample in codec.render_for_training(example):
            lengths.append(len(sample.token_ids))
            trained += sum(sample.loss_mask)
    fitting = [length for length in lengths if length <= max_length]
    packs = pack_best_fit(fitting, max_length)
    batches = [fitting[start : start + batch_size] for start in range(0, len(fitting), batch_size)]
    padded = sum(max(batch) * len(batch) for batch in batches)
    return DatasetStats(
        rows=rows,
        turns=turns,
        training_rows=len(lengths),
        tokens=sum(lengths),
        trained_tokens=trained,
        longest=max(lengths, default=0),
        median=sorted(lengths)[len(lengths) // 2] if lengths else 0,
        over_max_length=len(lengths) - len(fitting),
        max_length=max_length,
        histogram=_histogram(lengths),
        packs=len(packs),
        packing_efficiency=packing_efficiency(fitting, max_length),
        padding_efficiency=sum(fitting) / padded if padded else 1.0,
        steps_per_epoch=math.ceil(len(fitting) / batch_size),
        steps_per_epoch_packed=math.ceil(len(packs) / batch_size),
        batch_size=batch_size,
    )


def _histogram(lengths: Iterable[int]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for length in lengths:
        edge = 1 << max(0, (length - 1).bit_length())
        counts[edge] = counts.get(edge, 0) + 1
    return dict(sorted(counts.items()))
