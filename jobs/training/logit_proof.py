"""Compares logits: of the merged model with the adapted one, and of the reloaded export with the trained model."""

from __future__ import annotations

import numpy as np

from tuneyard.core.errors import CheckpointError, TrainingError

MAX_MERGE_KL = 1e-3
"""Largest allowed KL divergence between the adapted and the merged model, both in fp32, nats per token.

Measured on tiny-oss-random after six steps: 4e-9; merging without the adapter of one q_proj costs
0.015. On a GPU another order of additions changes a few of the experts that a token is routed to, which moves single
logits by whole units and leaves the distribution almost as it was.
"""

MIN_MERGE_TOP1_AGREEMENT = 0.99
"""Smallest allowed share of labelled positions at which the adapted and the merged model rank the same token first."""

MAX_MEAN_KL = 0.01
"""Largest allowed KL divergence between trained model and reloaded export, nats per token.

Measured: rounding the weights to bf16 costs about 1e-4.
"""

MIN_TOP1_AGREEMENT = 0.97
"""Smallest allowed share of positions at which both models rank the same token first, or two that are nearly tied.

It is below 1 because rounding the weights to bf16 may send a token to another expert. One position may always differ,
however few there are.
"""

NEAR_TIE = 0.1
"""Two tokens are nearly tied if the trained model's log-probabilities differ by at most this, in nats: rounding the
weights to bf16 may change their order."""


BLOCK = 64
"""Positions that are compared at once: 50 MB of logits for GPT-OSS's vocabulary, a few times over."""


def check_merge(adapted: list[np.ndarray], merged: list[np.ndarray]) -> None:
    """Raises TrainingError when merging the adapters changed the model.

    Both arguments: fp32 logits [positions, vocabulary] per probe row, before and after merging.
    """
    if not adapted:
        return  # exported without probe rows
    proof = compare_logits(adapted, merged)
    # Written so that a NaN fails.
    if not (proof["mean_kl"] <= MAX_MERGE_KL and _agrees(proof, MIN_MERGE_TOP1_AGREEMENT)):
        raise TrainingError(
            f"The merged weights are not the trained model: their mean KL divergence is {proof['mean_kl']:.2e} nats "
            f"(allowed {MAX_MERGE_KL:.0e}), their top-1 agreement but for near ties "
            f"{proof['top1_agreement_but_near_ties']:.3f} of {proof['positions']:.0f} positions (needed "
            f"{MIN_MERGE_TOP1_AGREEMENT}). Nothing was exported."
        )


def compare_logits(trained: list[np.ndarray], reloaded: list[np.ndarray]) -> dict[str, float]:
    """Compares two models over all positions of the probe rows; the result goes into the manifest's `proof`.

    `mean_kl`: KL(trained || reloaded), nats per token; `top1_agreement`: share of positions with the same first token;
    `top1_agreement_but_near_ties`: the same, where two tokens that are nearly tied (NEAR_TIE) count as one;
    `max_logit_difference`; `positions`: how many were compared.
    """
    positions, divergence, agreed, nearly_agreed, largest = 0, 0.0, 0, 0, 0.0
    for left_row, right_row in zip(trained, reloaded, strict=True):
        for start in range(0, len(left_row), BLOCK):
            left, right = left_row[start : start + BLOCK], right_row[start : start + BLOCK]
            log_p, log_q = _log_softmax(left), _log_softmax(right)
            positions += len(left)
            divergence += float((np.exp(log_p) * (log_p - log_q)).sum())
            first = right.argmax(-1)
            agreed += int((left.argmax(-1) == first).sum())
            margin = left.max(-1) - np.take_along_axis(left, first[:, None], -1)[:, 0]
            nearly_agreed += int((margin <= NEAR_TIE).sum())
            # max() would drop a NaN.
            largest = float(np.maximum(largest, np.abs(left - right).max()))
    return {
        "mean_kl": divergence / max(1, positions),
        "top1_agreement": agreed / max(1, positions),
        "top1_agreement_but_near_ties": nearly_agreed / max(1, positions),
        "max_logit_difference": largest,
        "positions": float(positions),
    }


def check_proof(proof: dict[str, float]) -> None:
    """Raises CheckpointError when the result of compare_logits shows that the export is not the trained model."""
    # Written so that a NaN fails.
    if not (proof["mean_kl"] <= MAX_MEAN_KL and _agrees(proof, MIN_TOP1_AGREEMENT)):
        raise CheckpointError(
            f"The reloaded export is not the trained model: its mean KL divergence is {proof['mean_kl']:.4f} nats "
            f"(allowed {MAX_MEAN_KL}), its top-1 agreement but for near ties "
            f"{proof['top1_agreement_but_near_ties']:.3f} of {proof['positions']:.0f} positions (needed "
            f"{MIN_TOP1_AGREEMENT}). Nothing was published."
        )


def _agrees(proof: dict[str, float], smallest: float) -> bool:
    """Whether at most a share of 1 - `smallest` of the positions differs, and one position may."""
    positions = proof["positions"]
    differing = (1 - proof["top1_agreement_but_near_ties"]) * positions
    return differing <= max(1.0, (1 - smallest) * positions) + 1e-6


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    result: np.ndarray = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result
