"""EngineConfig: which inference engine a replica runs, and with which limits."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from tuneyard.configs.engines.llama_cpp import LlamaCppConfig
from tuneyard.configs.engines.tensorrt_llm import TensorRTLLMConfig
from tuneyard.configs.grammar_limits import GrammarLimits
from tuneyard.core.strict_model import StrictConfig


class EngineConfig(StrictConfig):
    """The inference engine of a replica."""

    engine: Literal["transformers", "llama_cpp", "tensorrt_llm", "scripted"] = "transformers"
    """`transformers`: continuous batching of the transformers library, on a CPU or a GPU. `llama_cpp`: llama.cpp, the
    fastest on CPUs; needs the extra tuneyard[llama-cpp]. `tensorrt_llm`: NVIDIA's engine, in the serve image.
    `scripted`: fixed replies, for tests and work on user interfaces."""

    tensorrt_llm: TensorRTLLMConfig | None = None
    """Fields of the TensorRT-LLM engine. Required with `engine: tensorrt_llm`, which takes none of the fields below.
    null for the other engines."""

    llama_cpp: LlamaCppConfig | None = None
    """Fields of the llama.cpp engine. Required with `engine: llama_cpp`, which takes none of the fields below but
    `grammar`. null for the other engines."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the transformers engine. float32 is faster on most CPUs."""

    threads: int | None = Field(default=1, ge=1)
    """PyTorch threads of a replica of the transformers engine on a CPU. null keeps PyTorch's default."""

    kv_cache_tokens: int = Field(default=8192, ge=64)
    """Tokens in the KV cache of the transformers engine, over all running requests. It limits the engine's memory, and
    the length of prompt and answer together."""

    max_batch_tokens: int = Field(default=512, ge=16)
    """Tokens in one forward pass of the transformers engine. Longer prompts are prefilled over several passes."""

    max_concurrent_requests: int = Field(default=32, ge=1)
    """Requests in one forward pass of the transformers engine. Further requests wait in the engine."""

    grammar: GrammarLimits = GrammarLimits()
    """What compiling the schema of a request may take."""

    script: tuple[tuple[int, ...], ...] = ()
    """Replies of the scripted engine as lists of token ids. After the last reply the first one follows again."""

    token_interval_s: float = Field(default=0.0, ge=0)
    """Seconds between two tokens of the scripted engine."""

    @property
    def gpus(self) -> int:
        """GPUs that the engine of one replica requires; 0 for engines that use whatever the replica has."""
        return self.tensorrt_llm.tensor_parallel_size if self.tensorrt_llm is not None else 0

    @property
    def largest_batch(self) -> int | None:
        """Requests that the engine runs at the same time; further ones wait in it. None: any number."""
        match self.engine:
            case "tensorrt_llm" if (config := self.tensorrt_llm) is not None:
                return config.max_batch_size * (config.tensor_parallel_size if config.enable_attention_dp else 1)
            case "llama_cpp" if self.llama_cpp is not None:
                return self.llama_cpp.n_parallel
            case "transformers":
                return self.max_concurrent_requests
        return None

    @model_validator(mode="after")
    def _check_engine_fields(self) -> Self:
        for name, section in (("tensorrt_llm", self.tensorrt_llm), ("llama_cpp", self.llama_cpp)):
            if (self.engine == name) != (section is not None):
                raise ValueError(
                    f"the section {name} is for engine: {name} only, and required there; found engine: {self.engine}"
                )
        own = {"tensorrt_llm": {"tensorrt_llm"}, "llama_cpp": {"llama_cpp", "grammar"}}.get(self.engine)
        others = sorted(self.model_fields_set - own - {"engine"}) if own is not None else []
        if others:
            name = {"tensorrt_llm": "TensorRT-LLM", "llama_cpp": "llama.cpp"}[self.engine]
            raise ValueError(
                f"{others[0]} is not a field of the {name} engine. Use the fields of the section {self.engine}"
            )
        return self
