"""The loss of preference pairs, compared with plain arithmetic and with TRL's formula."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jobs.training.preference.dpo_loss import (
    REFERENCE,
    DpoLoss,
    count_pairs,
    dpo_losses,
    label_log_probs,
    pair_metrics,
    relative_log_probs,
)
from tuneyard.training_data.token_table import IGNORED_LABEL

VOCABULARY = 11
LOG_PROBS = st.floats(-300, 0)


class ScriptedModel(torch.nn.Module):
    """Gives these logits, whatever it is asked."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(logits)

    def forward(self, **inputs: Any) -> Any:
        assert inputs.keys() == {"input_ids", "logits_to_keep"}
        return SimpleNamespace(logits=self.logits)


@st.composite
def batches(draw: st.DrawFn) -> tuple[torch.Tensor, list[list[int]], list[list[float]], float]:
    """Logits [2 × pairs, places, vocabulary], labels, the reference [pairs, 2] and beta. Some rows have no label."""
    pairs, places = draw(st.integers(1, 4)), draw(st.integers(0, 5))
    seed = draw(st.integers(0, 2**31))
    logits = torch.randn(2 * pairs, places, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 5
    label = st.integers(0, VOCABULARY - 1) | st.just(IGNORED_LABEL)
    labels = draw(st.lists(st.lists(label, min_size=places, max_size=places), min_size=2 * pairs, max_size=2 * pairs))
    reference = draw(st.lists(st.tuples(LOG_PROBS, LOG_PROBS).map(list), min_size=pairs, max_size=pairs))
    return logits, labels, reference, draw(st.floats(0.01, 2))


def plain_log_prob(logits: torch.Tensor, labels: list[int]) -> float:
    """The sum of log(exp(logit) / Σ exp) over the labelled places, in double precision."""
    total = 0.0
    for place, label in zip(logits.double().tolist(), labels, strict=True):
        if label != IGNORED_LABEL:
            total += place[label] - math.log(sum(math.exp(value) for value in place))
    return total


@given(batches())
def test_sums_are_those_of_plain_arithmetic(
    drawn: tuple[torch.Tensor, list[list[int]], list[list[float]], float],
) -> None:
    logits, labels, reference, beta = drawn
    pairs = len(labels) // 2
    expected = [0.0] * 4
    for chosen in range(pairs):
        if all(label == IGNORED_LABEL for label in labels[chosen]):
            continue  # a filler row
        rejected = chosen + pairs
        margin = beta * (
            (plain_log_prob(logits[chosen], labels[chosen]) - reference[chosen][0])
            - (plain_log_prob(logits[rejected], labels[rejected]) - reference[chosen][1])
        )
        loss = math.log1p(math.exp(-margin)) if margin > -30 else -margin
        for position, value in enumerate((loss, margin, float(margin > 0), 1.0)):
            expected[position] += value
    model = ScriptedModel(logits)
    batch = {
        "input_ids": torch.zeros(2 * pairs, 3),
        "logits_to_keep": torch.arange(logits.shape[1]),
        "labels": torch.zeros(2 * pairs, 3),
        "segment_ids": torch.zeros(2 * pairs, 3),
        "shift_labels": torch.tensor(labels, dtype=torch.long).reshape(2 * pairs, -1),
        REFERENCE: torch.tensor(reference),
    }
    assert int(count_pairs(batch)) == expected[3]
    sums = DpoLoss(beta).sums(model, batch)
    assert sums.tolist() == pytest.approx(expected, rel=1e-4, abs=2e-3)
    sums[0].backward()
    assert torch.isfinite(model.logits.grad).all() if model.logits.grad is not None else logits.shape[1] == 0


@given(LOG_PROBS, LOG_PROBS, LOG_PROBS, LOG_PROBS, st.floats(0.01, 2))
def test_the_loss_is_trls(chosen: float, rejected: float, ref_chosen: float, ref_rejected: float, beta: float) -> None:
    """TRL 0.2x, DPOTrainer.dpo_loss with loss_type sigmoid and label_smoothing 0, written out by hand."""
    logratios = torch.tensor([chosen], dtype=torch.float64) - torch.tensor([rejected], dtype=torch.float64)
    ref_logratios = torch.tensor([ref_chosen], dtype=torch.float64) - torch.tensor([ref_rejected], dtype=torch.float64)
    logits = logratios - ref_logratios
    trl_loss = (
        -torch.nn.functional.logsigmoid(beta * logits) * (1 - 0.0)
        - torch.nn.functional.logsigmoid(-beta * logits) * 0.0
    )
    trl_margin = beta * (chosen - ref_chosen) - beta * (rejected - ref_rejected)
    policy = torch.tensor([[chosen, rejected]], dtype=torch.float64)
    margins = beta * relative_log_probs(policy, torch.tensor([[ref_chosen, ref_rejected]], dtype=torch.float64))
    assert margins.item() == pytest.approx(trl_margin, abs=1e-9)
    assert dpo_losses(margins).item() == pytest.approx(trl_loss.item(), abs=1e-9)


def test_the_gradient_is_the_papers() -> None:
    """Equation 7's gradient: −beta × σ(−margin) on the chosen answer's log-probability, and its opposite."""
    policy = torch.tensor([[-5.0, -4.0], [-2.0, -9.0]], requires_grad=True)
    reference = torch.tensor([[-6.0, -3.5], [-2.5, -8.0]])
    margins = 0.3 * relative_log_probs(policy, reference)
    dpo_losses(margins).sum().backward()
    weights = 0.3 * torch.sigmoid(-margins.detach())
    assert policy.grad is not None
    assert torch.allclose(policy.grad, torch.stack([-weights, weights], dim=-1))


def test_equal_answers_count_as_half_a_win() -> None:
    model = ScriptedModel(torch.zeros(2, 1, VOCABULARY))
    batch = {
        "input_ids": torch.zeros(2, 2),
        "logits_to_keep": torch.arange(1),
        "shift_labels": torch.tensor([[3], [4]]),
        REFERENCE: torch.full((1, 2), -math.log(VOCABULARY)),
    }
    metrics = pair_metrics(DpoLoss(0.1).sums(model, batch), "eval_")
    assert metrics["eval_preference_accuracy"] == 0.5
    assert metrics["eval_loss"] == pytest.approx(math.log(2))


def test_log_probs_in_bf16_are_summed_in_fp32() -> None:
    logits = torch.randn(1, 400, VOCABULARY, generator=torch.Generator().manual_seed(0)).bfloat16()
    labels = torch.randint(0, VOCABULARY, (1, 400), generator=torch.Generator().manual_seed(1))
    assert label_log_probs(logits, labels).dtype == torch.float32
    expected = plain_log_prob(logits[0].float(), labels[0].tolist())
    assert label_log_probs(logits, labels).item() == pytest.approx(expected, rel=1e-5)
