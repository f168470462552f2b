"""The comparison of two models by the tokens that one of them lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jobs.checkpoints.gguf import llama_cpp
from jobs.checkpoints.gguf.gguf_proof import compare_predictions
from jobs.checkpoints.gguf.llama_cpp import PlacePrediction

VOCABULARY = 8
logits = arrays(np.float64, (3, VOCABULARY), elements=st.floats(-8, 8))


def log_softmax(values: np.ndarray) -> np.ndarray:
    result: np.ndarray = values - np.log(np.exp(values).sum(-1, keepdims=True))
    return result


def predictions(log_probs: np.ndarray, labels: np.ndarray, listed: int) -> list[PlacePrediction]:
    """What a model with these log-probabilities would answer."""
    order = np.argsort(-log_probs, axis=-1, kind="stable")[:, :listed]
    return [
        PlacePrediction(float(row[label]), ids, row[ids])
        for row, label, ids in zip(log_probs, labels, order, strict=True)
    ]


@given(logits, logits, st.integers(1, VOCABULARY))
def test_the_divergence_is_at_most_that_of_the_whole_distributions(p: np.ndarray, q: np.ndarray, listed: int) -> None:
    log_p, log_q, labels = log_softmax(p), log_softmax(q), np.array([0, 3, 7])
    found = compare_predictions([(log_p, labels)], [predictions(log_q, labels, listed)])
    whole = float((np.exp(log_p) * (log_p - log_q)).sum(-1).mean())
    assert -1e-9 <= found["mean_kl"] <= whole + 1e-9
    if listed == VOCABULARY:
        assert found["mean_kl"] == pytest.approx(whole, abs=1e-9)
    assert found["loss_before"] == pytest.approx(float(-log_p[range(3), labels].mean()))
    assert found["loss_after"] == pytest.approx(float(-log_q[range(3), labels].mean()))
    assert found["positions"] == 3


@given(logits, st.integers(1, VOCABULARY))
def test_a_model_equals_itself(p: np.ndarray, listed: int) -> None:
    log_p, labels = log_softmax(p), np.array([0, 3, 7])
    found = compare_predictions([(log_p, labels)], [predictions(log_p, labels, listed)])
    assert found["mean_kl"] == pytest.approx(0, abs=1e-9)
    assert found["top1_agreement"] == 1
    assert found["loss_before"] == found["loss_after"]


def test_another_first_token_is_counted() -> None:
    log_p = log_softmax(np.eye(VOCABULARY)[[0, 1, 2]])
    labels = np.array([0, 0, 0])
    found = compare_predictions([(log_p, labels)], [predictions(log_p[::-1], labels, 2)])
    assert found["top1_agreement"] == pytest.approx(1 / 3)


def test_the_proofs_server_answers_no_other_user_and_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr(llama_cpp.xllamacpp, "Server", started.append)
    for _ in range(2):
        llama_cpp._start(Path("model.gguf"), 2, 100)
    first, second = started
    assert (len(first.api_keys), len(second.api_keys)) == (1, 1)
    assert first.api_keys != second.api_keys
    assert first.cache_ram_mib == 0
