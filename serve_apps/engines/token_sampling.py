"""Chooses the next token of one request: penalties, biases, grammar, temperature, top-k, top-p, min-p, seed."""

from __future__ import annotations

from collections import Counter

import torch
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from serve_apps.engines.engine import GenerationRequest, SamplingParams, TokenLogprob
from serve_apps.engines.grammars.token_grammar import TokenGrammar

MIN_TEMPERATURE = 1e-5
"""Lower temperatures are raised to this: in float32 they round to 0, and a probability of 0/0 would end the engine."""

MAX_LOGIT = 1e30
"""Penalties cannot push a logit beyond this: two infinite logits would leave no probability that is a number."""


class TokenChooser:
    """The sampling state of one running request: its parameters, grammar, random generator and chosen tokens."""

    def __init__(self, request: GenerationRequest, grammar: TokenGrammar | None) -> None:
        self._sampling = request.sampling
        self._logprobs_per_token = request.logprobs
        self._grammar = grammar
        has_repetition_penalty = request.sampling.repetition_penalty != 1
        self._prompt_tokens = set(request.prompt_token_ids) if has_repetition_penalty else set()
        self._chosen: Counter[int] = Counter()
        self._generator = torch.Generator()
        if request.sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(request.sampling.seed % 2**63)
        self._has_nan_logits = False
        self.logprobs: list[TokenLogprob] = []
        """One per chosen token if the request asks for log-probabilities, from the model's unadjusted distribution."""

    @property
    def error(self) -> str | None:
        """Why the answer must end now, or None: the model's logits are NaN, or the grammar cannot continue."""
        if self._has_nan_logits:
            return (
                "The model's logits are not numbers (NaN): its weights are broken, or their conversion to the dtype "
                "of the engine broke them."
            )
        if self._grammar is not None and self._grammar.error is not None:
            return f"The schema could not be enforced to the end of the answer: {self._grammar.error}"
        return None

    def choose(self, logits: torch.Tensor) -> int:
        """The next token, from the model's logits [1, vocabulary]; records it, and its log-probability if requested."""
        if bool(logits.isnan().any()):
            self._has_nan_logits = True
            return 0
        logits = logits.float()
        log_probabilities = logits.log_softmax(-1)[0] if self._logprobs_per_token is not None else None
        logits = self._adjusted(logits)
        token = (
            int(logits.argmax()) if self._sampling.temperature == 0 else _draw(logits, self._sampling, self._generator)
        )
        self._chosen[token] += 1
        if self._grammar is not None:
            self._grammar.accept(token)
        if log_probabilities is not None:
            best = log_probabilities.topk(self._logprobs_per_token) if self._logprobs_per_token else None
            top = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True)) if best is not None else ()
            self.logprobs.append(TokenLogprob(token, float(log_probabilities[token]), top))
        return token

    def _adjusted(self, logits: torch.Tensor) -> torch.Tensor:
        """The logits after logit_bias, OpenAI's penalties (answer only), the repetition penalty, and the grammar."""
        sampling = self._sampling
        logits = logits.clone()
        for token, bias in sampling.logit_bias:
            logits[0, token] += bias
        if self._chosen and (sampling.presence_penalty or sampling.frequency_penalty):
            tokens = torch.tensor(list(self._chosen), device=logits.device)
            counts = torch.tensor(list(self._chosen.values()), device=logits.device, dtype=logits.dtype)
            logits[0, tokens] -= sampling.presence_penalty + sampling.frequency_penalty * counts
        if sampling.repetition_penalty != 1:
            tokens = torch.tensor(sorted(self._prompt_tokens | self._chosen.keys()), device=logits.device)
            values = logits[0, tokens]
            penalty = sampling.repetition_penalty
            logits[0, tokens] = torch.where(values > 0, values / penalty, values * penalty)
        logits.clamp_(-MAX_LOGIT, MAX_LOGIT)
        allowed = self._grammar.allowed_tokens() if self._grammar is not None else None
        if allowed is not None:
            logits[0, torch.from_numpy(~allowed).to(logits.device)] = float("-inf")
        return logits


def _draw(logits: torch.Tensor, params: SamplingParams, generator: torch.Generator) -> int:
    """A random token from logits [1, vocabulary], by transformers' logits warpers in the order of its generate()."""
    no_ids = torch.empty((1, 0), dtype=torch.long)
    # Relative to the largest logit, so that division by a low temperature cannot overflow.
    logits = logits - logits.max()
    logits = TemperatureLogitsWarper(max(float(params.temperature), MIN_TEMPERATURE))(no_ids, logits)
    if params.top_k > 0:
        logits = TopKLogitsWarper(params.top_k)(no_ids, logits)
    if params.top_p < 1.0:
        logits = TopPLogitsWarper(params.top_p)(no_ids, logits)
    if params.min_p > 0.0:
        logits = MinPLogitsWarper(params.min_p)(no_ids, logits)
    # Drawn on the CPU, so that a seed gives the same tokens on every device.
    return int(torch.multinomial(logits.softmax(-1).cpu(), num_samples=1, generator=generator))
