"""DpoLoss: the loss of direct preference optimisation, with its rewards and how often the chosen answer wins.

Rafailov et al. 2023 (arXiv 2305.18290), equation 7; TRL's `sigmoid` loss without label smoothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from tuneyard.training_data.token_table import IGNORED_LABEL

REFERENCE = "reference_log_probs"
"""The column of rows, and the tensor [pairs, 2] of a batch, with the base's log-probabilities in nats."""


class DpoLoss:
    """The loss, reward margin and accuracy of the pairs of a batch from PairCollator.

    The reward of an answer is beta × (its log-probability − that of the base), a sum over its labelled tokens. The
    margin of a pair is the reward of the chosen answer minus that of the rejected one; its loss is −log σ(margin).
    """

    def __init__(self, beta: float) -> None:
        self._beta = beta

    def sums(self, model: torch.nn.Module, batch: dict[str, Any]) -> torch.Tensor:
        """Sums over the batch's pairs, [4] in fp32: loss, margin, chosen answers that win, number of pairs.

        A margin of 0 counts as half a win. Only the loss has a gradient. Filler rows are no pairs.
        """
        reference = batch.pop(REFERENCE)
        is_pair = count_labels(batch).chunk(2)[0] > 0
        margins = self._beta * relative_log_probs(answer_log_probs(model, batch), reference)
        with torch.no_grad():
            wins = (margins > 0).float() + 0.5 * (margins == 0).float()
        each = torch.stack([dpo_losses(margins), margins.detach(), wins, torch.ones_like(wins)], dim=-1)
        total: torch.Tensor = torch.where(is_pair[:, None], each, 0.0).sum(0)
        return total


def count_pairs(batch: dict[str, Any]) -> torch.Tensor:
    """The number of pairs of a batch from PairCollator."""
    return (count_labels(batch).chunk(2)[0] > 0).sum()


def count_labels(batch: dict[str, Any]) -> torch.Tensor:
    """The number of labels [rows] of each row of a batch."""
    is_labelled: torch.Tensor = batch["shift_labels"] != IGNORED_LABEL
    return is_labelled.sum(-1)


def answer_log_probs(model: torch.nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    """The log-probabilities [pairs, 2] in nats of the chosen and the rejected answers: sums over labelled tokens."""
    inputs = {name: value for name, value in batch.items() if name not in ("labels", "shift_labels", "segment_ids")}
    return label_log_probs(model(**inputs).logits, batch["shift_labels"]).reshape(2, -1).T


def label_log_probs(logits: torch.Tensor, shift_labels: torch.Tensor) -> torch.Tensor:
    """The sums [rows] of the log-probabilities of labels [rows, places] under logits [rows, places, vocabulary]."""
    losses = functional.cross_entropy(
        logits.flatten(0, 1).float(), shift_labels.flatten(), ignore_index=IGNORED_LABEL, reduction="none"
    )
    return -losses.reshape(shift_labels.shape).sum(-1)


def relative_log_probs(log_probs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """How much more [pairs] the chosen answer gained on the base than the rejected one; both arguments [pairs, 2]."""
    gains = log_probs - reference
    return gains[:, 0] - gains[:, 1]


def dpo_losses(margins: torch.Tensor) -> torch.Tensor:
    """−log σ of reward margins."""
    return -functional.logsigmoid(margins)


def pair_metrics(sums: torch.Tensor, prefix: str = "") -> dict[str, float]:
    """The means of DpoLoss.sums by the names of metrics; 0 without pairs."""
    loss, margin, wins, pairs = sums.tolist()
    count = max(1.0, pairs)
    return {
        f"{prefix}loss": loss / count,
        f"{prefix}reward_margin": margin / count,
        f"{prefix}preference_accuracy": wins / count,
    }
