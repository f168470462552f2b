"""The comparison of logits."""

from __future__ import annotations

import numpy as np

from jobs.training.logit_proof import compare_logits


def test_compare_logits_sees_a_difference() -> None:
    logits = [np.array([[0.0, 1.0], [2.0, 0.0]], dtype=np.float32)]
    same = compare_logits(logits, logits)
    assert (same["mean_kl"], same["top1_agreement"], same["positions"]) == (0.0, 1.0, 2.0)
    other = compare_logits(logits, [logits[0][:, ::-1]])
    assert other["mean_kl"] > 0.1
    assert other["top1_agreement"] == 0.0
