"""InferenceEngine: the contract of every engine, with the requests and chunks that cross it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to choose tokens. `max_tokens` is always explicit; temperature 0 is greedy; top_k 0 is off.

    Presence and frequency penalties look at the answer, the repetition penalty at the prompt too. The same seed gives
    the same tokens for the same prompt; None: another draw each time. `logit_bias`: (token id, what is added).
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt, as token ids."""

    request_id: str
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams
    stop_token_ids: tuple[int, ...]
    logprobs: int | None = None
    """How many of the most likely tokens to give at each place, with the chosen one; None: no log-probabilities."""

    grammar: str | None = None
    """What the answer is held to, in llguidance's syntax (tuneyard.harmony.answer_grammar); None: nothing."""

    shares_prompt: bool = False
    """Another request for the same answer has the same prompt, and it is counted there."""

    def options(self) -> frozenset[str]:
        """Those of OPTIONS that the request asks for."""
        sampling = self.sampling
        asked = {
            "logprobs": self.logprobs is not None,
            "response_format": self.grammar is not None,
            "seed": sampling.seed is not None,
            "min_p": sampling.min_p != 0,
            "presence_penalty": sampling.presence_penalty != 0,
            "frequency_penalty": sampling.frequency_penalty != 0,
            "repetition_penalty": sampling.repetition_penalty != 1,
            "logit_bias": bool(sampling.logit_bias),
        }
        return frozenset(name for name, is_asked in asked.items() if is_asked)


OPTIONS = frozenset(
    {
        "logprobs",
        "response_format",
        "seed",
        "min_p",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "logit_bias",
    }
)
"""What not every engine can do, by the API parameter that asks for it. An engine that cannot refuses the request."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The log-probability (nats) of a chosen token, and the most likely ones, best first, as (token id, value)."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class TokenChunk:
    """Tokens that are new since the last chunk; `finish_reason` on the last chunk only. `logprobs`: one per token,
    when asked for."""

    token_ids: tuple[int, ...]
    finish_reason: Literal["stop", "length", "abort"] | None = None
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Load at this moment: requests that the engine holds, and the share of its KV cache in use (0 to 1)."""

    requests: int
    kv_cache_usage: float


class InferenceEngine(Protocol):
    """Token ids in, token ids out. Engines know nothing of chats.

    `start` loads the model, off the event loop, and returns when the engine answers. `generate`
    gives chunks in order; the last one, and only it, has a finish_reason: "stop" when the last
    token is one of stop_token_ids (which is then the last of token_ids: the codec needs it),
    "length" when exactly max_tokens were made, "abort" after `abort`. A request that cannot be
    answered (no prompt, one that does not fit max_model_len with max_tokens, unknown token ids,
    sampling out of range, one of OPTIONS from an engine without it, an id that is running)
    raises RequestError on the first step, before anything is generated, and hurts no other
    request. When the engine dies, every running and every later request raises EngineError: no
    answer ever just ends. Closing or cancelling the iterator aborts the request in the engine;
    its id may be used again at once. `abort` of an unknown id does nothing. `check_health` raises
    EngineError once the engine cannot answer any more. `shutdown` ends running requests with
    EngineError, frees the engine and may be called twice; an engine that is not shut down may
    keep the process from ending.
    """

    @property
    def max_model_len(self) -> int:
        """The context in tokens, prompt and answer together."""
        ...

    async def start(self) -> None: ...
    def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenChunk, None]: ...
    async def abort(self, request_id: str) -> None: ...
    def stats(self) -> EngineStats: ...
    async def check_health(self) -> None: ...
    async def shutdown(self) -> None: ...
