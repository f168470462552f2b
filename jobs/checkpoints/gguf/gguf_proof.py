"""Compares llama.cpp's predictions from a GGUF file with transformers' from the checkpoint that it was made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from jobs.checkpoints.gguf.llama_cpp import PlacePrediction
from tuneyard.core.errors import CheckpointError

MAX_MEAN_KL = 0.1
"""Largest allowed KL divergence between checkpoint and file, nats per token, whatever the type.

It tells another model from rounding. Measured on random models, which rounding changes most: 1e-4 in f32 and 2e-3 in
q8_0 for tiny-oss-random; 0.29 with its gate and up projections exchanged. llama.cpp itself differs from
transformers where YaRN has `truncate: false`, as GPT-OSS has: 0.03 for a model of 36 layers.
"""
_SMALLEST = 1e-12
"""Probability of all tokens that are not listed, at least: rounding could make it negative."""


def compare_predictions(
    expected: Iterable[tuple[np.ndarray, np.ndarray]], found: Sequence[Sequence[PlacePrediction]]
) -> dict[str, float]:
    """Compares two models at the labelled places of all rows; the result goes into the file's manifest.

    `expected`: the checkpoint's log-probabilities [places, vocabulary] and labels [places] of each row; `found`: those
    of llama.cpp. `loss_before` and `loss_after` are their mean losses, in nats per token. `mean_kl` is
    KL(checkpoint || file), in nats per token, over the tokens that llama.cpp lists and all others as one: at most the
    divergence of the whole distributions. `top1_agreement` is the share of places with the same likeliest token.
    """
    places, before, after, divergence, agreed = 0, 0.0, 0.0, 0.0, 0
    for (log_probs, labels), row in zip(expected, found, strict=True):
        for place, label, prediction in zip(log_probs, labels, row, strict=True):
            places += 1
            before -= float(place[label])
            after -= prediction.label
            divergence += _divergence(place[prediction.ids], prediction.log_probs)
            agreed += int(place.argmax() == prediction.ids[0])
    return {
        "loss_before": before / places,
        "loss_after": after / places,
        "mean_kl": divergence / places,
        "top1_agreement": agreed / places,
        "positions": places,
    }


def check_predictions(proof: Mapping[str, float]) -> None:
    """Raises CheckpointError when the result of compare_predictions shows that the file is another model."""
    # Written so that a NaN fails.
    if not proof["mean_kl"] <= MAX_MEAN_KL:
        raise CheckpointError(
            f"llama.cpp computes another model from the file than transformers from the checkpoint: their mean KL "
            f"divergence is {proof['mean_kl']:.4f} nats (allowed {MAX_MEAN_KL}), their top-1 agreement "
            f"{proof['top1_agreement']:.3f}. Nothing was kept. Try --type f32; if that fails too, this is a fault of "
            f"Tuneyard or of this version of xllamacpp."
        )


def _divergence(log_p: np.ndarray, log_q: np.ndarray) -> float:
    """KL(p || q) of two distributions over the listed tokens and one for all others."""
    p, q = np.exp(log_p.astype(np.float64)), np.exp(log_q.astype(np.float64))
    other_p, other_q = max(1 - p.sum(), _SMALLEST), max(1 - q.sum(), _SMALLEST)
    return float((p * (log_p - log_q)).sum() + other_p * np.log(other_p / other_q))
