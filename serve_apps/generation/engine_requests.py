"""The engine's requests for one API request: one per choice."""

from __future__ import annotations

import dataclasses

from serve_apps.engines.engine import GenerationRequest, SamplingParams
from serve_apps.generation.request_limits import fit_to_context
from serve_apps.generation.served_model import ServedModel
from serve_apps.tracing.request_id import new_engine_request_id
from tuneyard.api.wire.sampling import SamplingRequest


def build_engine_requests(
    model: ServedModel,
    request: SamplingRequest,
    prompt: list[int],
    *,
    prompt_field: str,
    logprobs: int | None = None,
    prompt_logprobs: int | None = None,
    grammar: str | None = None,
) -> list[GenerationRequest]:
    """One engine request for each of the request's `n` choices, all with the same prompt.

    `logprobs`, `prompt_logprobs` and `grammar` are as in GenerationRequest; `prompt_field` is the request's field that
    holds the prompt. Raises RequestError if prompt and answer do not fit the context.
    """
    max_tokens = fit_to_context(request, len(prompt), model.max_model_len, prompt_field)
    sampling = _sampling_params(request, max_tokens)
    return [
        GenerationRequest(
            new_engine_request_id(),
            tuple(prompt),
            _with_seed_of_choice(sampling, index),
            model.codec.stop_token_ids,
            logprobs=logprobs,
            prompt_logprobs=prompt_logprobs,
            grammar=grammar,
            shares_prompt=index > 0,
        )
        for index in range(request.n)
    ]


def _sampling_params(request: SamplingRequest, max_tokens: int) -> SamplingParams:
    return SamplingParams(
        max_tokens=max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        min_p=request.min_p,
        seed=request.seed,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        repetition_penalty=request.repetition_penalty,
        logit_bias=tuple(sorted(request.logit_bias.items())),
    )


def _with_seed_of_choice(sampling: SamplingParams, index: int) -> SamplingParams:
    """Gives each choice its own seed: with the same seed all choices would be equal."""
    return sampling if sampling.seed is None else dataclasses.replace(sampling, seed=sampling.seed + index)
