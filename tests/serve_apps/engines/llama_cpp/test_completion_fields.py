"""What llama.cpp is told of a request, and what is read from its chunks."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.engines.engine import GenerationRequest, SamplingParams
from serve_apps.engines.llama_cpp.completion_fields import (
    UNLIKELY,
    LogitBiases,
    completion_fields,
    derive_seed,
    read_token,
)
from tuneyard.core.errors import EngineError


def fields(answer: list[int], seed: int = 1, logprobs: int | None = None, **sampling: Any) -> dict[str, Any]:
    request = GenerationRequest("r", (1, 2, 3), SamplingParams(10, **sampling), (), logprobs=logprobs)
    return completion_fields(request, answer, 7, 2, seed, has_bias=False)


def test_only_what_the_request_asks_for_is_sampled_with() -> None:
    """llama.cpp's own defaults are top_k 40, top_p 0.95, min_p 0.05 and a window of 64 tokens."""
    assert fields([])["samplers"] == ["temperature"]
    greedy = fields([], temperature=0.0, top_p=0.5, top_k=3, min_p=0.1)
    assert (greedy["temperature"], greedy["samplers"]) == (0.0, ["temperature"])
    full = fields([], temperature=0.7, top_p=0.5, top_k=3, min_p=0.1, repetition_penalty=1.2)
    assert full["samplers"] == ["penalties", "temperature", "top_k", "top_p", "min_p"]
    assert (full["repeat_penalty"], full["repeat_last_n"]) == (1.2, 13)
    assert (full["prompt"], full["n_predict"], full["id_slot"]) == ([1, 2, 3], 7, 2)
    assert fields([8, 9])["prompt"] == [1, 2, 3, 8, 9]
    assert fields([], temperature=0.7, top_k=10**400)["top_k"] == 2**31 - 1
    assert (fields([], logprobs=0)["n_probs"], "n_probs" in fields([])) == (1, False)


@given(st.integers(-(2**63), 2**64), st.integers(0, 10**6))
def test_a_seed_is_never_llama_cpps_random_one_and_differs_by_request(seed: int, number: int) -> None:
    chosen = derive_seed(seed, number)
    assert 0 <= chosen < 2**32 - 1
    assert chosen == derive_seed(seed, number)
    assert chosen != derive_seed(seed, number + 1)


@given(
    st.lists(st.integers(0, 5), max_size=20),
    st.sampled_from([0.0, 0.5, -1.0]),
    st.sampled_from([0.0, 0.25, -2.0]),
    st.dictionaries(st.integers(0, 7), st.sampled_from([-100.0, 1.5]), max_size=3),
)
def test_biases_are_openais_penalties_over_the_answer(
    answer: list[int], presence: float, frequency: float, biases: dict[int, float]
) -> None:
    params = SamplingParams(
        9, presence_penalty=presence, frequency_penalty=frequency, logit_bias=tuple(sorted(biases.items()))
    )
    state = LogitBiases(params)
    for position, token in enumerate(answer):
        before = state.as_json()
        assert state.add(token) == (json.loads(before) != json.loads(state.as_json()))
        counts = Counter(answer[: position + 1])
        expected = {t: biases.get(t, 0.0) - (presence + frequency * counts[t] if counts[t] else 0.0) for t in range(8)}
        found = dict(json.loads(state.as_json()))
        assert {t: found.get(t, 0.0) for t in range(8)} == pytest.approx(expected)
    allowed = np.array([True, False] * 4)
    forbidden = [token for token, value in json.loads(state.as_json(allowed)) if value is False]
    assert forbidden == [1, 3, 5, 7]


def test_chunks_without_a_token_are_told_from_those_with_one() -> None:
    choice = {"text": "", "finish_reason": None, "logprobs": None}
    progress = {"choices": [choice], "prompt_progress": {"cache": 0}, "__verbose": {"tokens": [0]}}
    assert read_token(progress, None) is None
    assert read_token({"choices": [choice | {"finish_reason": "length"}], "__verbose": {"tokens": []}}, None) is None
    assert read_token({"choices": [choice], "__verbose": {"tokens": [7]}}, None) == (7, None)
    entry = {
        "id": 7,
        "logprob": -3.4028234663852886e38,
        "top_logprobs": [{"id": 5, "logprob": -0.5}, {"id": 6, "logprob": -1.0}],
    }
    read = read_token({"choices": [choice | {"logprobs": {"content": [entry]}}]}, 1)
    assert read is not None
    token, logprob = read
    assert logprob is not None
    assert (token, logprob.token_id, logprob.logprob, logprob.top) == (7, 7, UNLIKELY, ((5, -0.5),))


def test_a_log_probability_that_is_no_number_is_an_error_of_its_request() -> None:
    """llama.cpp writes NaN as null. An error of another type would end the engine."""
    entry = {"id": 7, "logprob": None, "top_logprobs": [{"id": 7, "logprob": None}]}
    chunk = {"choices": [{"text": "", "finish_reason": None, "logprobs": {"content": [entry]}}]}
    with pytest.raises(EngineError, match=r"not numbers \(NaN\)"):
        read_token(chunk, 0)
