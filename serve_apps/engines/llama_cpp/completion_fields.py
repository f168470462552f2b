"""llama.cpp's fields for a request, and its chunks as tokens. Plain data."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from serve_apps.engines.engine import MAX_TOP_K, GenerationRequest, SamplingParams, TokenLogprob
from tuneyard.core.errors import EngineError

MIN_TEMPERATURE = 1e-5
"""Lower temperatures are raised to this, as in the transformers engine."""

UNLIKELY = -9999.0
"""OpenAI's log-probability of a token whose probability is 0 in float32."""

NO_BIASES = "[]"
"""The field logit_bias without an entry."""

LOWEST_FLOAT = -1e38
"""llama.cpp reports the lowest float for the logarithm of 0."""


def completion_fields(
    request: GenerationRequest, answer: Sequence[int], count: int, slot_id: int, seed: int, *, has_bias: bool
) -> dict[str, Any]:
    """The fields of a request for `count` tokens after the prompt and the `answer` so far, without logit_bias.

    `seed` has 32 bits, and is not the largest number, which to llama.cpp means a random seed. `has_bias`: there is a
    logit_bias.
    """
    sampling = request.sampling
    return {
        "prompt": [*request.prompt_token_ids, *answer],
        "n_predict": count,
        "id_slot": slot_id,
        "stream": True,
        # A chunk per prefilled batch: a request can be cancelled between them.
        "return_progress": True,
        **_reports(0 if has_bias and request.logprobs is None else request.logprobs),
        **_sampling(sampling, len(request.prompt_token_ids) + sampling.max_tokens),
        "seed": seed,
    }


def derive_seed(seed: int, number: int) -> int:
    """The seed of an answer's request `number` to llama.cpp.

    With one seed for all, a token that is chosen again would be drawn by the number that drew the refused one.
    """
    digest = hashlib.blake2b(f"{seed}:{number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % (2**32 - 1)


def scoring_fields(prompt: Sequence[int], top: int, slot_id: int) -> dict[str, Any]:
    """The fields of a request for one token after `prompt`, which logit_bias is to choose, with its log-probability."""
    return {
        "prompt": list(prompt),
        "n_predict": 1,
        "id_slot": slot_id,
        "stream": True,
        "temperature": 0,
        "samplers": ["temperature"],
        **_reports(top),
    }


def read_token(chunk: dict[str, Any], logprobs: int | None) -> tuple[int, TokenLogprob | None] | None:
    """The token of a chunk, and its log-probability with the `logprobs` most likely tokens; None if it has no token.

    Raises EngineError for a log-probability that is not a number.
    """
    if "prompt_progress" in chunk or chunk["choices"][0]["finish_reason"] is not None:
        return None
    if "__verbose" in chunk:
        (token,) = chunk["__verbose"]["tokens"]
        return int(token), None
    (entry,) = chunk["choices"][0]["logprobs"]["content"]
    if logprobs is None:
        return int(entry["id"]), None
    top = tuple((int(other["id"]), _logprob(other)) for other in entry["top_logprobs"][:logprobs])
    return int(entry["id"]), TokenLogprob(int(entry["id"]), _logprob(entry), top)


class LogitBiases:
    """The logit biases of an answer: the request's, and those by which the tokens of the answer are penalised.

    llama.cpp's own presence and frequency penalties count the tokens of the prompt too.
    """

    def __init__(self, sampling: SamplingParams) -> None:
        self._sampling = sampling
        self._counts: Counter[int] = Counter()

    @property
    def change_always(self) -> bool:
        """Whether each token of the answer changes them."""
        return self._sampling.frequency_penalty != 0

    def add(self, token: int) -> bool:
        """Counts a token of the answer, and returns whether that changes the biases."""
        self._counts[token] += 1
        is_new = self._counts[token] == 1
        return self.change_always or (is_new and self._sampling.presence_penalty != 0)

    def as_json(self, allowed: np.ndarray | None = None) -> str:
        """The field logit_bias. With `allowed`, booleans [vocabulary], all other tokens are forbidden."""
        sampling = self._sampling
        biases = dict(sampling.logit_bias)
        if sampling.presence_penalty or sampling.frequency_penalty:
            for token, count in self._counts.items():
                penalty = sampling.presence_penalty + sampling.frequency_penalty * count
                biases[token] = biases.get(token, 0.0) - penalty
        entries = [json.dumps([token, bias]) for token, bias in biases.items()]
        if allowed is not None:
            entries += [f"[{token},false]" for token in np.flatnonzero(~allowed).tolist()]
        return f"[{','.join(entries)}]"


def _reports(logprobs: int | None) -> dict[str, Any]:
    """How chunks name their tokens: with log-probabilities, which take time, or in a verbose form.

    The verbose form repeats the whole logit_bias at the end.
    """
    return {"verbose": True} if logprobs is None else {"n_probs": max(1, logprobs)}


def _sampling(sampling: SamplingParams, max_length: int) -> dict[str, Any]:
    """llama.cpp's samplers in the order of the transformers engine, after logit_bias and before the draw."""
    fields: dict[str, Any] = {"temperature": 0.0, "samplers": []}
    if sampling.repetition_penalty != 1:
        # By default llama.cpp looks back 64 tokens.
        fields |= {"repeat_penalty": sampling.repetition_penalty, "repeat_last_n": max_length}
        fields["samplers"].append("penalties")
    fields["samplers"].append("temperature")
    if sampling.temperature > 0:
        fields["temperature"] = max(sampling.temperature, MIN_TEMPERATURE)
        for name, value, is_used in (
            ("top_k", min(sampling.top_k, MAX_TOP_K), sampling.top_k > 0),
            ("top_p", sampling.top_p, sampling.top_p < 1),
            ("min_p", sampling.min_p, sampling.min_p > 0),
        ):
            if is_used:
                fields[name] = value
                fields["samplers"].append(name)
    return fields


def _logprob(entry: dict[str, Any]) -> float:
    if entry["logprob"] is None:
        raise EngineError(
            "The model's logits are not numbers (NaN): its weights are broken, or engine.llama_cpp.weights or the "
            "cache types cannot hold its values. Try bf16 or f32."
        )
    return float(entry["logprob"]) if entry["logprob"] > LOWEST_FLOAT else UNLIKELY
