"""Logits compared: adapters merged against adapters put on, a reloaded export against the trained model."""

from __future__ import annotations

import numpy as np

from tuneyard.core.errors import CheckpointError, TrainingError

MAX_MERGE_LOGIT_DIFFERENCE = 5e-3
"""Merged against adapted logits, both fp32: measured 1e-4 and less; a wrong merge is off by whole units."""

MAX_MEAN_KL = 0.01
"""nats per token, trained model against reloaded export. Rounding the weights to bf16 costs about 1e-4."""

MIN_TOP1_AGREEMENT = 0.97
"""Share of positions at which both put the same token first; near-ties may flip when rounding to bf16."""


def check_merge(adapted: list[np.ndarray], merged: list[np.ndarray]) -> None:
    """Raises TrainingError when merging has changed the model. Each: fp32 [positions, vocabulary] per probe row."""
    worst = max((float(np.abs(a - m).max()) for a, m in zip(adapted, merged, strict=True)), default=0.0)
    if worst > MAX_MERGE_LOGIT_DIFFERENCE:
        raise TrainingError(
            f"Merging the adapters changed the logits by {worst:.2e} (allowed {MAX_MERGE_LOGIT_DIFFERENCE:.0e}): "
            "the merged weights are not the trained model. Nothing was exported."
        )


def compare_logits(expected: list[np.ndarray], found: list[np.ndarray]) -> dict[str, float]:
    """Mean KL divergence (nats per token), top-1 agreement and worst logit difference over all positions."""
    left, right = np.concatenate(expected), np.concatenate(found)
    log_p, log_q = _log_softmax(left), _log_softmax(right)
    return {
        "mean_kl": float((np.exp(log_p) * (log_p - log_q)).sum(-1).mean()),
        "top1_agreement": float((left.argmax(-1) == right.argmax(-1)).mean()),
        "max_logit_difference": float(np.abs(left - right).max()),
        "positions": float(len(left)),
    }


def check_proof(proof: dict[str, float]) -> None:
    """Raises CheckpointError when what compare_logits found is not the same model."""
    # Written so that a NaN fails.
    if not (proof["mean_kl"] <= MAX_MEAN_KL and proof["top1_agreement"] >= MIN_TOP1_AGREEMENT):
        raise CheckpointError(
            "The reloaded export is not the trained model: mean KL "
            f"{proof['mean_kl']:.4f} nats (allowed {MAX_MEAN_KL}), top-1 agreement {proof['top1_agreement']:.3f} "
            f"(needed {MIN_TOP1_AGREEMENT}). Nothing was published."
        )


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    result: np.ndarray = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result
