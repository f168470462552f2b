"""The comparison of logits."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.training.logit_proof import NEAR_TIE, check_merge, check_proof, compare_logits
from tuneyard.core.errors import CheckpointError, TrainingError


def test_compare_logits_sees_a_difference() -> None:
    logits = [np.array([[0.0, 1.0], [2.0, 0.0]], dtype=np.float32)]
    same = compare_logits(logits, logits)
    assert (same["mean_kl"], same["top1_agreement"], same["positions"]) == (0.0, 1.0, 2.0)
    other = compare_logits(logits, [logits[0][:, ::-1]])
    assert other["mean_kl"] > 0.1
    assert other["top1_agreement"] == 0.0


def logits(seed: int, positions: int = 400) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 4, (positions, 64)).astype(np.float32)


def test_a_few_changed_routings_are_no_wrong_merge() -> None:
    """As on a GPU: logits of a few positions move by whole units, and no position ranks another token first."""
    adapted, merged = logits(0), logits(0)
    for position in range(0, len(merged), 100):
        merged[position, merged[position].argmin()] += 7.0
    assert np.abs(adapted - merged).max() > 5
    check_merge([adapted[:150], adapted[150:]], [merged[:150], merged[150:]])


@pytest.mark.parametrize("broken", [lambda x: x + np.roll(x, 1, 1) * 0.1, lambda x: x * np.nan, lambda x: x[:, ::-1]])
def test_a_wrong_merge_is_refused(broken: object) -> None:
    assert callable(broken)
    with pytest.raises(TrainingError, match=r"The merged weights are not the trained model.*Nothing was exported"):
        check_merge([logits(0)], [broken(logits(0))])


def test_near_ties_that_change_order_are_no_wrong_export() -> None:
    """Also where there are few positions: 28, of which 14 are nearly tied."""
    trained = logits(0, 28)
    first, second = trained.argsort(-1)[:, -1], trained.argsort(-1)[:, -2]
    places = np.arange(14)
    trained[places, second[:14]] = trained[places, first[:14]] - NEAR_TIE / 10
    exported = trained.copy()
    exported[places, second[:14]] += NEAR_TIE / 5
    proof = compare_logits([trained], [exported])
    assert (proof["top1_agreement"], proof["top1_agreement_but_near_ties"]) == (0.5, 1.0)
    check_proof(proof)


@pytest.mark.parametrize(("positions", "allowed"), [(1, 1), (28, 1), (66, 1), (67, 2), (400, 12)])
def test_one_position_or_three_of_a_hundred_may_differ(positions: int, allowed: int) -> None:
    def proof(differing: int) -> dict[str, float]:
        agreement = (positions - differing) / positions
        return {"mean_kl": 0.0, "top1_agreement_but_near_ties": agreement, "positions": float(positions)}

    check_proof(proof(allowed))
    if allowed < positions:
        with pytest.raises(CheckpointError, match="but for near ties"):
            check_proof(proof(allowed + 1))


def test_a_changed_answer_is_no_near_tie() -> None:
    trained, exported = logits(0), logits(0)
    for row in exported[:13]:
        row[row.argsort()[-2]] = row.max() + 1e-3
    margins = np.sort(trained[:13], -1)
    assert (margins[:, -1] - margins[:, -2] > NEAR_TIE).sum() >= 10
    assert compare_logits([trained], [exported])["top1_agreement_but_near_ties"] <= 1 - 10 / 400
