"""SamplingParams with TensorRT-LLM's defaults: 32 tokens, and greedy if no sampling value is given."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class GuidedDecodingParams:
    grammar: str | None = None


@dataclass(slots=True, kw_only=True)
class SamplingParams:
    end_id: int | None = None
    max_tokens: int = 32
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool = False
    top_k: int | None = None
    top_p: float | None = None
    temperature: float | None = None
    logprobs: int | None = None
    guided_decoding: GuidedDecodingParams | None = None
    detokenize: bool = True

    def __post_init__(self) -> None:
        for name, low, high in (("top_p", 0, 1), ("top_k", 0, None), ("temperature", 0, None)):
            value = getattr(self, name)
            if value is not None and (value < low or (high is not None and value > high)):
                raise ValueError(f"require {name} >= {low}, got {name}={value}")

    @property
    def is_greedy(self) -> bool:
        is_default = self.temperature is None and self.top_p is None and self.top_k is None
        return is_default or self.top_k == 1 or self.top_p == 0.0 or self.temperature == 0
