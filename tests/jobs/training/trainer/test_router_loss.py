"""The router's balance loss does not depend on how conversations become batches."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.training.trainer.router_loss import balance_loss_sum
from tuneyard.training_data.token_table import IGNORED_LABEL

EXPERTS, CHOSEN, LAYERS = 6, 2, 3


def _conversation(length: int, seed: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = [torch.randn(length, EXPERTS, generator=generator) for _ in range(LAYERS)]
    labels = torch.where(torch.rand(length, generator=generator) < 0.5, IGNORED_LABEL, 7)
    return logits, labels


def _by_hand(logits: list[torch.Tensor], labels: torch.Tensor) -> float:
    """The definition, one conversation at a time."""
    losses = []
    for layer in logits:
        probabilities = layer.softmax(-1)
        chosen = [set(row.topk(CHOSEN).indices.tolist()) for row in layer]
        share = [sum(expert in each for each in chosen) / len(layer) for expert in range(EXPERTS)]
        losses.append(EXPERTS * sum(s * p for s, p in zip(share, probabilities.mean(0).tolist(), strict=True)))
    return sum(losses) / LAYERS * int((labels != IGNORED_LABEL).sum())


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6), seed=st.integers(0, 1000), rows=st.integers(1, 3))
@settings(max_examples=60)
def test_padded_packed_and_divided_batches_have_the_same_sum(lengths: list[int], seed: int, rows: int) -> None:
    conversations = [_conversation(length, seed + index) for index, length in enumerate(lengths)]
    expected = sum(_by_hand(logits, labels) for logits, labels in conversations)
    padded = balance_loss_sum(*_batch([[each] for each in conversations]), CHOSEN)
    packed = balance_loss_sum(*_batch([conversations[row::rows] for row in range(rows)]), CHOSEN)
    divided = sum(balance_loss_sum(*_batch([[each]]), CHOSEN) for each in conversations)
    torch.testing.assert_close(torch.stack([padded, packed, torch.as_tensor(divided)]), torch.tensor([expected] * 3))


def _batch(
    rows: list[list[tuple[list[torch.Tensor], torch.Tensor]]],
) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Rows of conversations as one padded batch: logits by layer, segments, labels."""
    longest = max(sum(len(labels) for _, labels in row) for row in rows)
    layers: list[list[torch.Tensor]] = [[] for _ in range(LAYERS)]
    segments, labels = torch.full((len(rows), longest), -1), torch.full((len(rows), longest), IGNORED_LABEL)
    for index, row in enumerate(rows):
        end = 0
        for number, (logits, marked) in enumerate(row):
            segments[index, end : end + len(marked)] = number
            labels[index, end : end + len(marked)] = marked
            end += len(marked)
            for layer, values in zip(layers, logits, strict=True):
                layer.append(values)
        for layer in layers:
            layer.append(torch.full((longest - end, EXPERTS), 99.0))
    return [torch.cat(layer) for layer in layers], segments, labels
