"""Problems of a TensorRT-LLM config with its GPU and its model: missing kernels, sizes that do not divide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tuneyard.configs.engines.tensorrt_llm import TensorRTLLMConfig
from tuneyard.planning.gpus import GPUS, Gpu
from tuneyard.planning.tensorrt_llm_defaults import expert_parallel_size


def gpu_problems(gpu: Gpu) -> Iterator[str]:
    """Yields a message if TensorRT-LLM has no kernels for GPT-OSS on this GPU type."""
    if not gpu.is_hopper and not gpu.is_blackwell:
        yield (
            f"{gpu.name} (SM {gpu.sm}) has no kernels for GPT-OSS's experts in TensorRT-LLM. Hopper (H100, H200) and "
            "Blackwell (B200) have them. Use the transformers engine on this GPU."
        )


def kernel_problems(config: TensorRTLLMConfig, *, is_mxfp4: bool) -> Iterator[str]:
    """Yields one message for each reason why `moe_backend` does not run on this GPU or with these experts."""
    gpu, backend = GPUS[config.gpu], config.moe_backend
    if backend == "TRTLLM" and gpu.is_hopper:
        yield f"moe_backend=TRTLLM does not run on {gpu.name}. Remove it, or set TRITON."
    if backend == "TRTLLM" and not is_mxfp4:
        yield "moe_backend=TRTLLM runs only MXFP4 experts, but these are BF16. Remove it, or set CUTLASS."
    if backend == "TRITON" and not gpu.is_hopper:
        yield f"moe_backend=TRITON runs only on Hopper, but the GPU is {gpu.name}. Remove it."


def parallelism_problems(config: TensorRTLLMConfig, model: Mapping[str, Any]) -> Iterator[str]:
    """Yields one message for each size of the model that the GPUs do not divide. `model` is its config.json."""
    size, gpu = config.tensor_parallel_size, GPUS[config.gpu]
    heads, kv_heads, experts = (
        int(model[name]) for name in ("num_attention_heads", "num_key_value_heads", "num_local_experts")
    )
    if not config.enable_attention_dp and heads % size:
        yield (
            f"tensor_parallel_size={size} does not divide the model's {heads} attention heads. Choose a divisor of "
            f"{heads}."
        )
    if not config.enable_attention_dp and kv_heads % size and size % kv_heads:
        yield (
            f"tensor_parallel_size={size} and the model's {kv_heads} key/value heads: neither divides the other. "
            f"Choose a divisor or a multiple of {kv_heads}."
        )
    groups = expert_parallel_size(config)
    if experts % groups:
        yield (
            f"moe_expert_parallel_size={groups} does not divide the model's {experts} experts. Choose a divisor of "
            f"{experts}."
        )
    if gpu.is_hopper and groups != size:
        yield (
            f"moe_expert_parallel_size={groups} differs from tensor_parallel_size={size}, but on {gpu.name} the "
            "experts' kernels (TRITON) cannot split an expert. Set both to the same number."
        )
    longest = int(model["max_position_embeddings"])
    if config.max_seq_len > longest:
        yield (
            f"max_seq_len={config.max_seq_len} is more than the model's context of {longest} tokens. Set it to "
            f"{longest} or less."
        )
