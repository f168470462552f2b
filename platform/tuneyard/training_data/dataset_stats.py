"""Statistics of a dataset for training: rows, turns, tokens, packs and steps."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from tuneyard.chats.messages import ChatExample
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.training_data.packing import pack_best_fit, packing_efficiency
from tuneyard.training_data.row_samples import render_rows


@dataclass(frozen=True, slots=True)
class DatasetStats:
    """Statistics of one dataset, rendered for training.

    `rows` are chats or preference pairs, `turns` their assistant messages, `training_rows` the turns with loss, or the
    pairs. `longest` and `median` are tokens per training row; of a pair, those of each answer with its prompt.
    `histogram` maps each power of two to the number of such rows or answers with at most so many tokens, and more than
    half of that. `packs`, the efficiencies and the steps leave out rows over `max_length`. `padding_efficiency` is the
    share of tokens that are no padding if rows are not packed. Pairs are never packed: what is said of packs is None.
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
    packs: int | None
    packing_efficiency: float | None
    padding_efficiency: float
    steps_per_epoch: int
    steps_per_epoch_packed: int | None
    batch_size: int
    pairs: int = 0

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

    The examples are all chats, or all pairs. Memory: a few hundred bytes per training row, to find the packs.
    """
    rows = turns = trained = pairs = 0
    lengths = array("i")
    for example in examples:
        rows += 1
        pairs += example.rejected is not None
        turns += sum(message.role == "assistant" for message in (*example.messages, *example.answers[1:]))
        for sample in chain.from_iterable(render_rows(codec, example)):
            lengths.append(len(sample.token_ids))
            trained += sum(sample.loss_mask)
    each = 2 if pairs else 1
    training_rows = [lengths[start : start + each] for start in range(0, len(lengths), each)]
    fitting = [row for row in training_rows if max(row) <= max_length]
    fitting_lengths = [length for row in fitting for length in row]
    packs = None if pairs else pack_best_fit(fitting_lengths, max_length)
    batches = [fitting[start : start + batch_size] for start in range(0, len(fitting), batch_size)]
    padded = sum(max(map(max, batch)) * len(batch) * each for batch in batches)
    return DatasetStats(
        rows=rows,
        turns=turns,
        training_rows=len(training_rows),
        tokens=sum(lengths),
        trained_tokens=trained,
        longest=max(lengths, default=0),
        median=sorted(lengths)[len(lengths) // 2] if lengths else 0,
        over_max_length=len(training_rows) - len(fitting),
        max_length=max_length,
        histogram=length_histogram(lengths),
        packs=None if packs is None else len(packs),
        packing_efficiency=None if pairs else packing_efficiency(fitting_lengths, max_length),
        padding_efficiency=sum(fitting_lengths) / padded if padded else 1.0,
        steps_per_epoch=math.ceil(len(fitting) / batch_size),
        steps_per_epoch_packed=None if packs is None else math.ceil(len(packs) / batch_size),
        batch_size=batch_size,
        pairs=pairs,
    )


def length_histogram(lengths: Iterable[int]) -> dict[int, int]:
    """Each power of two with the number of lengths of at most so many, and more than half of that."""
    counts: dict[int, int] = {}
    for length in lengths:
        edge = 1 << max(0, (length - 1).bit_length())
        counts[edge] = counts.get(edge, 0) + 1
    return dict(sorted(counts.items()))
