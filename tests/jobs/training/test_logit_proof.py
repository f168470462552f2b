"""The comparison of logits."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.training.logit_proof import check_merge, compare_logits
from tuneyard.core.errors import TrainingError


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
