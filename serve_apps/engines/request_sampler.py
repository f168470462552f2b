"""Sampling per request inside transformers' continuous batching.

The library batches greedily; this logits processor chooses the token of each request that wants more than that, and
leaves only that token finite, so that the library's argmax takes it. Plain greedy rows pass untouched: the library's
own per-request processors would sort the whole vocabulary for every row.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any, ClassVar

import torch
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessor
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from serve_apps.engines.engine import GenerationRequest, SamplingParams, TokenLogprob
from serve_apps.engines.token_grammar import TokenGrammar

GREEDY_SLOT = 0

MIN_TEMPERATURE = 1e-5
"""Lower ones round to zero in float32, and one 0/0 among the probabilities would kill the engine for all requests."""

MAX_LOGIT = 1e30
"""Penalties cannot push a logit beyond it: two infinite ones would leave no probability that is a number."""


class Slot:
    """What is known of one request while it runs: its parameters, and what has been chosen so far."""

    def __init__(self, request: GenerationRequest, grammar: TokenGrammar | None) -> None:
        self._sampling = request.sampling
        self._alternatives = request.logprobs
        self._grammar = grammar
        self._seen = set(request.prompt_token_ids) if request.sampling.repetition_penalty != 1 else set()
        self._chosen: Counter[int] = Counter()
        self._generator = torch.Generator()
        if request.sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(request.sampling.seed % 2**63)
        self._not_a_number = False
        self.logprobs: list[TokenLogprob] = []
        """One per chosen token, of the model's own distribution, when they were asked for."""

    @property
    def problem(self) -> str | None:
        """Why the answer must not go on: what it was held to has broken."""
        if self._not_a_number:
            return "The model's logits are not numbers (NaN): its weights, or what they were converted to, are broken."
        if self._grammar is not None and self._grammar.problem is not None:
            return f"The schema could not be enforced to the end: {self._grammar.problem}"
        return None

    def choose(self, logits: torch.Tensor) -> int:
        """The next token, out of logits [1, vocabulary]; what the model itself would say is kept as logprobs."""
        if bool(logits.isnan().any()):
            self._not_a_number = True
            return 0
        logits = logits.float()
        own = logits.log_softmax(-1)[0] if self._alternatives is not None else None
        logits = self._adjusted(logits)
        token = (
            int(logits.argmax()) if self._sampling.temperature == 0 else _draw(logits, self._sampling, self._generator)
        )
        self._chosen[token] += 1
        if self._grammar is not None:
            self._grammar.accept(token)
        if own is not None:
            best = own.topk(self._alternatives) if self._alternatives else None
            top = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True)) if best is not None else ()
            self.logprobs.append(TokenLogprob(token, float(own[token]), top))
        return token

    def _adjusted(self, logits: torch.Tensor) -> torch.Tensor:
        """Biases, penalties (OpenAI's over the answer, repetition's over the prompt too), what the grammar allows."""
        sampling = self._sampling
        logits = logits.clone()
        for token, bias in sampling.logit_bias:
            logits[0, token] += bias
        if self._chosen and (sampling.presence_penalty or sampling.frequency_penalty):
            tokens = torch.tensor(list(self._chosen), device=logits.device)
            counts = torch.tensor(list(self._chosen.values()), device=logits.device, dtype=logits.dtype)
            logits[0, tokens] -= sampling.presence_penalty + sampling.frequency_penalty * counts
        if sampling.repetition_penalty != 1:
            tokens = torch.tensor(sorted(self._seen | self._chosen.keys()), device=logits.device)
            values = logits[0, tokens]
            penalty = sampling.repetition_penalty
            logits[0, tokens] = torch.where(values > 0, values / penalty, values * penalty)
        logits.clamp_(-MAX_LOGIT, MAX_LOGIT)
        if self._grammar is not None:
            self._grammar.restrict(logits)
        return logits


class RequestSampler(ContinuousBatchingLogitsProcessor):
    """Chooses tokens with each request's own parameters.

    `add` books a slot before the request is added, with its number as `logit_processor_kwargs`;
    `release` gives it back. Both may be called from any thread.
    """

    supported_kwargs: ClassVar[dict[str, type]] = {"slot": int}
    ignored_kwargs: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots: dict[int, Slot] = {}
        self._next_number = GREEDY_SLOT + 1

    def add(self, slot: Slot) -> int:
        """The slot's number."""
        with self._lock:
            number = self._next_number
            # The library carries the number as int32.
            self._next_number = number + 1 if number < 2**31 - 1 else GREEDY_SLOT + 1
            self._slots[number] = slot
        return number

    def release(self, number: int) -> None:
        """Forgets a slot."""
        with self._lock:
            self._slots.pop(number, None)

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        int32_tensor.fill_(GREEDY_SLOT)

    def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> torch.Tensor:
        slots = [r.state.logit_processor_kwargs.get("slot", GREEDY_SLOT) for r in requests_with_new_token]
        return torch.tensor(slots, dtype=torch.int32)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """`scores` [rows, vocabulary], `tensor_arg` slots [rows or more]; only chosen tokens stay finite."""
        numbers = tensor_arg[: scores.size(0)].tolist()
        with self._lock:
            choosing = [(row, self._slots[number]) for row, number in enumerate(numbers) if number in self._slots]
        if not choosing:
            return scores
        scores = scores.clone()
        for row, slot in choosing:
            token = slot.choose(scores[row : row + 1])
            scores[row] = float("-inf")
            scores[row, token] = 0.0
        return scores


def _draw(logits: torch.Tensor, params: SamplingParams, generator: torch.Generator) -> int:
    """A token from logits [1, vocabulary], through transformers' own warpers in generate()'s order."""
    no_ids = torch.empty((1, 0), dtype=torch.long)
    # Against the largest, so that a low temperature cannot overflow.
    logits = logits - logits.max()
    logits = TemperatureLogitsWarper(max(float(params.temperature), MIN_TEMPERATURE))(no_ids, logits)
    if params.top_k > 0:
        logits = TopKLogitsWarper(params.top_k)(no_ids, logits)
    if params.top_p < 1.0:
        logits = TopPLogitsWarper(params.top_p)(no_ids, logits)
    if params.min_p > 0.0:
        logits = MinPLogitsWarper(params.min_p)(no_ids, logits)
    # On the CPU, where a seed gives the same tokens whatever the device.
    return int(torch.multinomial(logits.softmax(-1).cpu(), num_samples=1, generator=generator))
