"""The values that null fields of a TensorRTLLMConfig stand for, which depend on the GPU and the model."""

from __future__ import annotations

from tuneyard.configs.engines.tensorrt_llm import TensorRTLLMConfig
from tuneyard.planning.gpus import GPUS


def expert_parallel_size(config: TensorRTLLMConfig) -> int:
    """`moe_expert_parallel_size`, with null replaced by its meaning."""
    if config.moe_expert_parallel_size is not None:
        return config.moe_expert_parallel_size
    return config.tensor_parallel_size if GPUS[config.gpu].is_hopper else 1


def kv_cache_dtype(config: TensorRTLLMConfig) -> str:
    """`kv_cache_dtype`, with null replaced by its meaning."""
    return config.kv_cache_dtype or ("fp8" if GPUS[config.gpu].is_blackwell else "auto")


def moe_backend(config: TensorRTLLMConfig, *, is_mxfp4: bool) -> str:
    """`moe_backend`, with null replaced by its meaning. `is_mxfp4` says whether the experts are MXFP4 or BF16."""
    if config.moe_backend is not None:
        return config.moe_backend
    if GPUS[config.gpu].is_hopper:
        return "TRITON"
    return "TRTLLM" if is_mxfp4 else "CUTLASS"
