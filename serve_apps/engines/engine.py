"""InferenceEngine: the protocol that every engine implements, with its requests, chunks and statistics."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal, Protocol

MAX_TOP_K = 2**31 - 1
"""What a larger top_k is passed on as: engines outside Python take 32 bits. No vocabulary has as many tokens."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the engine chooses tokens."""

    max_tokens: int
    """New tokens, at most. Always explicit: engines have no default."""

    temperature: float = 1.0
    """0 selects the most likely token each time."""

    top_p: float = 1.0
    top_k: int = 0
    """0 turns top-k sampling off."""

    min_p: float = 0.0
    seed: int | None = None
    """The same seed gives the same tokens for the same prompt; None draws differently each time."""

    presence_penalty: float = 0.0
    """Applies to the tokens of the answer."""

    frequency_penalty: float = 0.0
    """Applies to the tokens of the answer."""

    repetition_penalty: float = 1.0
    """Applies to the tokens of the prompt and the answer."""

    logit_bias: tuple[tuple[int, float], ...] = ()
    """Pairs of a token id and the value to add to its logit."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt, as token ids, to be answered once."""

    request_id: str
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams
    stop_token_ids: tuple[int, ...]
    """The answer ends at the first of these tokens, which belongs to it. See stop_tokens.py."""

    logprobs: int | None = None
    """Number of most likely tokens to report per token, besides the chosen one; None reports no log-probabilities."""

    prompt_logprobs: int | None = None
    """Number of most likely tokens to report per token of the prompt, besides the prompt's own; None: no report."""

    grammar: str | None = None
    """Grammar that the answer must match, in llguidance's syntax (tuneyard.harmony.answer_grammar); None: any text."""

    shares_prompt: bool = False
    """True for choices after the first: prompt tokens are billed on choice 0."""

    def requested_options(self) -> frozenset[str]:
        """The OPTIONS that change the answer to this request; `seed` and `min_p` change none at temperature 0."""
        sampling = self.sampling
        is_sampled = sampling.temperature != 0
        is_requested = {
            "logprobs": self.logprobs is not None,
            "prompt_logprobs": self.prompt_logprobs is not None,
            "response_format": self.grammar is not None,
            "seed": is_sampled and sampling.seed is not None,
            "min_p": is_sampled and sampling.min_p != 0,
            "presence_penalty": sampling.presence_penalty != 0,
            "frequency_penalty": sampling.frequency_penalty != 0,
            "repetition_penalty": sampling.repetition_penalty != 1,
            "logit_bias": bool(sampling.logit_bias),
        }
        return frozenset(name for name, requested in is_requested.items() if requested)


OPTIONS = frozenset(
    {
        "logprobs",
        "prompt_logprobs",
        "response_format",
        "seed",
        "min_p",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "logit_bias",
    }
)
"""API parameters that some engines do not support. Such an engine refuses a request that uses one of them.

`prompt_logprobs` is `echo` with `logprobs` of POST /v1/completions.
"""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Log-probability, in nats, of a chosen token, and the most likely tokens at its position."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    """Pairs of token id and log-probability, most likely first."""


@dataclass(frozen=True, slots=True)
class TokenChunk:
    """The tokens that were generated since the last chunk."""

    token_ids: tuple[int, ...]
    finish_reason: Literal["stop", "length", "abort"] | None = None
    """Set on the last chunk only."""

    logprobs: tuple[TokenLogprob, ...] = ()
    """One per token if the request asks for log-probabilities, otherwise empty."""

    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    """On one chunk before the first token, if the request asks for them: one per token of the prompt but the first."""

    cached_prompt_tokens: int = 0
    """Tokens of the prompt that the engine found in its KV cache, on each chunk with tokens; 0 if it does not count
    them."""


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The engine's load at this moment."""

    requests: int
    """Requests in the engine, running and waiting."""

    kv_cache_usage: float
    """Used share of the KV cache, 0 to 1."""


class InferenceEngine(Protocol):
    """Generates token ids from token ids. Engines know nothing of chats or text.

    `start` loads the model outside the event loop and returns when the engine can answer.

    `generate` yields chunks in order. The first chunk may come without tokens, as soon as the engine has accepted the
    request: after it, only a failure of the engine or a time limit raises. Only the last chunk has a finish_reason:
    "stop" if its last token is one of stop_token_ids (the codec needs that token), "length" if exactly max_tokens
    tokens were generated, "abort" after `abort`. The first step raises RequestError, before anything is generated, for
    a request that cannot be answered: no prompt, prompt and max_tokens longer than max_model_len, unknown token ids,
    sampling values out of range, one of OPTIONS that the engine does not support, or the id of a running request. Such
    a request does not affect others. When the engine fails, all running and all later requests raise EngineError: an
    answer never ends without a finish_reason or an error. Closing or cancelling the iterator aborts the request in the
    engine, and its id can be used again immediately.

    `abort` ignores unknown ids. `check_health` raises EngineError once the engine cannot answer any more. `shutdown`
    ends running requests with EngineError and frees the engine; it may be called twice. Without it, the engine may keep
    the process from ending.
    """

    @property
    def max_model_len(self) -> int:
        """Maximum number of tokens of prompt and answer together."""
        ...

    async def start(self) -> None: ...
    def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenChunk, None]: ...
    async def abort(self, request_id: str) -> None: ...
    def stats(self) -> EngineStats: ...
    async def check_health(self) -> None: ...
    async def shutdown(self) -> None: ...
