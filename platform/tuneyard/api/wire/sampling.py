"""SamplingRequest: what chat completions and completions have in common."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, field_validator

from tuneyard.api.wire.base import Items, RequestModel
from tuneyard.api.wire.unsupported import without_unsupported
from tuneyard.core.errors import RequestError

MAX_CHOICES = 16
"""The most answers that one request may ask for (`n`)."""


class StreamOptions(RequestModel):
    """Options of a streamed answer."""

    include_usage: bool = False
    """Whether the stream ends with a chunk that holds the token counts."""
    include_obfuscation: bool = False
    """A label. OpenAI pads chunks against eavesdroppers who see their sizes; this server never does."""


class SamplingRequest(RequestModel):
    """Parameters of every request that samples from a model."""

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    """The most tokens to generate; OpenAI's older name of max_completion_tokens."""
    n: int = Field(default=1, ge=1, le=MAX_CHOICES)
    """How many answers to sample for the prompt."""
    stop: Items[str] = Field(default=(), max_length=4)
    """Strings that end the answer. The answer stops before the first one that appears. One string or an array."""
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=-1)
    """Samples among the k most likely tokens; 0 and -1 turn it off. As in vLLM and TensorRT-LLM; not OpenAI's."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """Drops tokens less likely than this share of the most likely one. As in vLLM and TensorRT-LLM; not OpenAI's."""
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    presence_penalty: float = Field(default=0.0, ge=-2, le=2)
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    repetition_penalty: float = Field(default=1.0, ge=0.01, le=10)
    """Penalises earlier tokens by this factor; 1 turns it off. As in vLLM and TensorRT-LLM; not OpenAI's."""
    logit_bias: dict[Annotated[int, Field(strict=False)], Annotated[float, Field(ge=-100, le=100)]] = Field(
        default_factory=dict
    )
    """Token id -> number added to its logit."""
    user: str | None = None
    metadata: dict[str, str] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    """This and the five before it are labels: they change no answer."""

    @field_validator("stop", mode="before")
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("top_k")
    @classmethod
    def _off_as_zero(cls, value: int) -> int:
        return max(value, 0)

    @field_validator("stop")
    @classmethod
    def _check_stop_not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(value):
            raise ValueError("an empty stop string would end every answer at once")
        return value

    @classmethod
    def parse(cls, body: Any) -> Self:
        """Returns the request in a decoded JSON body. Raises RequestError that names the parameter at fault.

        A null counts as absent. Unsupported parameters of OpenAI are refused unless their value changes nothing.
        """
        return super().parse(without_unsupported(body, cls.model_fields) if isinstance(body, dict) else body)

    def check(self) -> None:
        if self.stream_options is not None and not self.stream:
            raise RequestError("stream_options is only allowed with stream=true.", param="stream_options")

    @property
    def token_limit(self) -> int | None:
        """The most tokens to generate, or None for no limit of the request."""
        return self.max_tokens
