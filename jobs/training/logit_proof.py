"""Compares logits: of the merged model with the adapted one, and of the reloaded export with the trained model."""

from __future__ import annotations

import numpy as np

from tuneyard.core.errors import CheckpointError, TrainingError

MAX_MERGE_LOGIT_DIFFERENCE = 5e-3
"""Largest allowed difference of a logit before and after merging, both fp32.

Measured: at most 1e-4. A wrong merge is off by whole units.
"""

MAX_MEAN_KL = 0.01
"""Largest allowed KL divergence between trained model and reloaded export, nats per token.

Measured: rounding the weights to bf16 costs about 1e-4.
"""

MIN_TOP1_AGREEMENT = 0.97
"""Smallest allowed share of positions at which both models rank the same token first.

It is below 1 because near-ties may change order when weights are rounded to bf16.
"""


def check_merge(adapted: list[np.ndarray], merged: list[np.ndarray]) -> None:
    """Raises TrainingError when merging the adapters changed the model.

    Both arguments: fp32 logits [positions, vocabulary] per probe row, before and after merging.
    """
    worst = max((float(np.abs(a - m).max()) for a, m in zip(adapted, merged, strict=True)), default=0.0)
    if worst > MAX_MERGE_LOGIT_DIFFERENCE:
        raise TrainingError(
            f"Merging the adapters changed the logits by {worst:.2e} (allowed {MAX_MERGE_LOGIT_DIFFERENCE:.0e}): "
            "the merged weights are not the trained model. Nothing was exported."
        )


def compare_logits(trained: list[np.ndarray], reloaded: list[np.ndarray]) -> dict[str, float]:
    """Compares two models over all positions of the probe rows; the result goes into the manifest's `proof`.

    `mean_kl`: KL(trained || reloaded), nats per token; `top1_agreement`: share of positions with the same first token;
    `max_logit_difference`; `positions`: how many were compared.
    """
    left, right = np.concatenate(trained), np.concatenate(reloaded)
    log_p, log_q = _log_softmax(left), _log_softmax(right)
    return {
        "mean_kl": float((np.exp(log_p) * (log_p - log_q)).sum(-1).mean()),
        "top1_agreement": float((left.argmax(-1) == right.argmax(-1)).mean()),
        "max_logit_difference": float(np.abs(left - right).max()),
        "positions": float(len(left)),
    }


def check_proof(proof: dict[str, float]) -> None:
    """Raises CheckpointError when the result of compare_logits shows that the export is not the trained model."""
    # Written so that a NaN fails.
    if not (proof["mean_kl"] <= MAX_MEAN_KL and proof["top1_agreement"] >= MIN_TOP1_AGREEMENT):
        raise CheckpointError(
            f"The reloaded export is not the trained model: its mean KL divergence is {proof['mean_kl']:.4f} nats "
            f"(allowed {MAX_MEAN_KL}), its top-1 agreement {proof['top1_agreement']:.3f} (needed "
            f"{MIN_TOP1_AGREEMENT}). Nothing was published."
        )


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    result: np.ndarray = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result
