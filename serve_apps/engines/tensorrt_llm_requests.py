"""TensorRT-LLM's sampling parameters for a request, and its results as the chunks of InferenceEngine. Plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from serve_apps.engines.engine import MAX_TOP_K, GenerationRequest, TokenLogprob
from serve_apps.engines.stop_tokens import ends_with_stop_token
from tuneyard.core.errors import EngineError
from tuneyard.harmony.answer_grammar import leave_end_to_engine


def sampling_arguments(request: GenerationRequest) -> dict[str, Any]:
    """Arguments of tensorrt_llm.SamplingParams; `guided_decoding` holds those of GuidedDecodingParams, or None.

    Every value is given explicitly, because TensorRT-LLM's defaults are not OpenAI's: 32 tokens, and greedy.
    """
    sampling, stop_token_ids = request.sampling, request.stop_token_ids
    return {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": min(sampling.top_k, MAX_TOP_K),
        # Required without a tokenizer. -1 is no token's id, so without stop tokens only max_tokens ends the answer.
        "end_id": stop_token_ids[0] if stop_token_ids else -1,
        "stop_token_ids": list(stop_token_ids[1:]) or None,
        # The codec needs the token that ended the answer.
        "include_stop_str_in_output": True,
        "detokenize": False,
        # TensorRT-LLM gives the tokenizer's eos_token, <|return|>, to llguidance as the end token (grammar_matcher.py).
        "guided_decoding": None if request.grammar is None else {"grammar": leave_end_to_engine(request.grammar)},
        # In TensorRT-LLM 0 turns log-probabilities off. The chosen token is always among those reported.
        "logprobs": None if request.logprobs is None else max(1, request.logprobs),
    }


def finish_reason(
    request: GenerationRequest,
    reported: str | None,
    new_tokens: Sequence[int],
    total_tokens: int,
    *,
    is_cancelled: bool,
) -> Literal["stop", "length", "abort"] | None:
    """InferenceEngine's finish_reason for the one that TensorRT-LLM reports with `new_tokens`; None: not finished.

    `total_tokens` counts all tokens of the answer; `is_cancelled` says that this engine has aborted the request. Raises
    EngineError if TensorRT-LLM ended the request for another reason.
    """
    if reported is None:
        return None
    if reported == "stop":
        return "stop"
    if reported == "length":
        # TensorRT-LLM checks the length before the stop tokens.
        if ends_with_stop_token(request, new_tokens):
            return "stop"
        if total_tokens == request.sampling.max_tokens:
            return "length"
        raise EngineError(f"TensorRT-LLM cut the answer after {total_tokens} of {request.sampling.max_tokens} tokens.")
    if reported == "cancelled" and is_cancelled:
        return "abort"
    raise EngineError(f"TensorRT-LLM ended the request with finish_reason {reported!r}.")


def cached_prompt_tokens(result: Any) -> int:
    """Tokens of the prompt that were found in the KV cache; 0 where this version does not report them."""
    return int(getattr(result, "cached_tokens", 0) or 0)


def token_logprobs(
    request: GenerationRequest, new_tokens: Sequence[int], reported: Sequence[Mapping[int, Any]]
) -> tuple[TokenLogprob, ...]:
    """The log-probabilities of `new_tokens`; empty if the request asks for none.

    `reported` is TensorRT-LLM's: for each token, Logprob objects by token id. Raises EngineError if a chosen token is
    not among them.
    """
    if request.logprobs is None:
        return ()
    result = []
    for token, entry in zip(new_tokens, reported, strict=True):
        if token not in entry:
            raise EngineError(f"TensorRT-LLM reported no log-probability for token {token}, which it chose.")
        ranked = sorted(((other.logprob, name) for name, other in entry.items()), reverse=True)
        top = tuple((name, value) for value, name in ranked[: request.logprobs])
        result.append(TokenLogprob(token, entry[token].logprob, top))
    return tuple(result)
