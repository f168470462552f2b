"""Checks that refuse a request before it reaches an engine: an invalid one could end the engine for all requests."""

from __future__ import annotations

from serve_apps.engines.engine import GenerationRequest
from tuneyard.core.errors import RequestError


def check_request(
    request: GenerationRequest, max_model_len: int, *, options: frozenset[str] = frozenset(), reason: str = ""
) -> None:
    """Raises RequestError if the request uses an unsupported option, does not fit, or has values out of range.

    `options` are the OPTIONS that the engine supports; `reason` is added to the message about others.
    """
    for option in sorted(request.requested_options() - options):
        raise RequestError(f"{option!r} is not supported by this engine.{reason}", param=option, code="unsupported")
    length, sampling = len(request.prompt_token_ids), request.sampling
    if length == 0:
        raise RequestError("The prompt has no tokens.", param="messages")
    if length + 1 > max_model_len:
        raise RequestError(
            f"The prompt has {length} tokens; the context is {max_model_len} tokens, the answer included.",
            param="messages",
            code="context_length_exceeded",
        )
    if not 1 <= sampling.max_tokens <= max_model_len - length:
        raise RequestError(
            f"max_tokens={sampling.max_tokens} must be from 1 to {max_model_len - length}: the prompt has {length} "
            f"tokens, and the context is {max_model_len} tokens.",
            param="max_tokens",
            code="context_length_exceeded" if sampling.max_tokens > 0 else None,
        )
    # The comparisons are False for NaN, so NaN is refused too.
    for name, is_valid, expected in (
        ("temperature", 0 <= sampling.temperature < float("inf"), "a finite number from 0"),
        ("top_p", 0 < sampling.top_p <= 1, "greater than 0 and at most 1"),
        ("top_k", sampling.top_k >= 0, "0 or greater"),
        ("min_p", 0 <= sampling.min_p <= 1, "from 0 to 1"),
        ("presence_penalty", -2 <= sampling.presence_penalty <= 2, "from -2 to 2"),
        ("frequency_penalty", -2 <= sampling.frequency_penalty <= 2, "from -2 to 2"),
        ("repetition_penalty", 0 < sampling.repetition_penalty < float("inf"), "a finite number greater than 0"),
    ):
        if not is_valid:
            raise RequestError(f"{name}={getattr(sampling, name)} is out of range: it must be {expected}.", param=name)


def check_token_ids(request: GenerationRequest, vocabulary_size: int) -> None:
    """Raises RequestError if logit_bias or the prompt has a token id that the model does not have."""
    for token, _ in request.sampling.logit_bias:
        if not 0 <= token < vocabulary_size:
            raise RequestError(
                f"logit_bias has the token id {token}; the model's token ids are 0 to {vocabulary_size - 1}.",
                param="logit_bias",
            )
    low, high = min(request.prompt_token_ids), max(request.prompt_token_ids)
    if low < 0 or high >= vocabulary_size:
        raise RequestError(
            f"The prompt has token ids from {low} to {high}; the model's token ids are 0 to {vocabulary_size - 1}."
        )
