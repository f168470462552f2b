"""Sampling per request inside transformers' continuous batching.

The library batches greedily; this logits processor draws the token of each sampling request itself
and leaves only that token finite, so that the library's argmax takes it. Greedy rows pass untouched:
the library's own per-request processors would sort the whole vocabulary for every row.
"""

from __future__ import annotations

import threading
from typing import Any, ClassVar

import torch
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessor
from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from serve_apps.inference_engine import SamplingParams

GREEDY_SLOT = 0

MIN_TEMPERATURE = 1e-5
"""Lower ones round to zero in float32, and one 0/0 among the probabilities would kill the engine for all requests."""


class RequestSampler(ContinuousBatchingLogitsProcessor):
    """Draws tokens with each request's own parameters.

    `slot_for` books a slot before the request is added, with the slot as its `logit_processor_kwargs`;
    `release` gives it back. Both may be called from any thread.
    """

    supported_kwargs: ClassVar[dict[str, type]] = {"slot": int}
    ignored_kwargs: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._params: dict[int, SamplingParams] = {}
        self._next_slot = GREEDY_SLOT + 1

    def slot_for(self, sampling: SamplingParams) -> int:
        """A slot for a request's parameters; GREEDY_SLOT when it needs none."""
        if sampling.temperature == 0:
            return GREEDY_SLOT
        with self._lock:
            slot = self._next_slot
            # The library carries the slot as int32.
            self._next_slot = slot + 1 if slot < 2**31 - 1 else GREEDY_SLOT + 1
            self._params[slot] = sampling
        return slot

    def release(self, slot: int) -> None:
        """Forgets a slot."""
        with self._lock:
            self._params.pop(slot, None)

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        int32_tensor.fill_(GREEDY_SLOT)

    def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> torch.Tensor:
        slots = [r.state.logit_processor_kwargs.get("slot", GREEDY_SLOT) for r in requests_with_new_token]
        return torch.tensor(slots, dtype=torch.int32)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """`scores` [rows, vocabulary], `tensor_arg` slots [rows or more]; only chosen tokens stay finite."""
        slots = tensor_arg[: scores.size(0)].tolist()
        with self._lock:
            sampled = [(row, self._params[slot]) for row, slot in enumerate(slots) if slot in self._params]
        if not sampled:
            return scores
        scores = scores.clone()
        for row, params in sampled:
            token = _draw(scores[row : row + 1], params)
            scores[row] = float("-inf")
            scores[row, token] = 0.0
        return scores


def _draw(logits: torch.Tensor, params: SamplingParams) -> int:
    """A token from logits [1, vocabulary], through transformers' own warpers in generate()'s order."""
    no_ids = torch.empty((1, 0), dtype=torch.long)
    # Against the largest, so that a low temperature cannot overflow.
    logits = logits - logits.max()
    logits = TemperatureLogitsWarper(max(float(params.temperature), MIN_TEMPERATURE))(no_ids, logits)
    if params.top_k > 0:
        logits = TopKLogitsWarper(params.top_k)(no_ids, logits)
    if params.top_p < 1.0:
        logits = TopPLogitsWarper(params.top_p)(no_ids, logits)
    return int(torch.multinomial(logits.softmax(-1), num_samples=1))
