"""Whether a TensorRT-LLM engine fits its GPUs: memory of weights and KV cache, and the number of streams, calculated.

The calculation has not been compared with a real GPU. TensorRT-LLM measures the memory of activations when it starts
("Peak memory" in its log); the plan uses an assumption and says so. A draft model counts with the size of its files on
each GPU; its own small KV cache is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tuneyard.configs.engines.tensorrt_llm import TensorRTLLMConfig
from tuneyard.core.resources import GIB
from tuneyard.core.room_commands import QUANTIZE
from tuneyard.planning.engine_weights import loaded_expert_bytes, weight_bytes
from tuneyard.planning.gpus import GPUS, OVERHEAD_GIB, Gpu
from tuneyard.planning.tensorrt_llm_checks import gpu_problems, kernel_problems, parallelism_problems
from tuneyard.planning.tensorrt_llm_defaults import kv_cache_dtype

TOKENS_PER_BLOCK = 32
"""Tokens in one block of TensorRT-LLM's KV cache."""


@dataclass(frozen=True, slots=True)
class ServePlan:
    """The memory of one replica. `tuneyard serve plan --json` prints these fields."""

    gpu: Gpu
    gpus: int
    weights_gib: float
    """Per GPU."""
    overhead_gib: float
    """Per GPU."""
    kv_cache_gib: float
    """Per GPU."""
    kv_bytes_per_token: int
    """Per GPU."""
    kv_tokens: int
    """Tokens in the KV cache of each place."""
    places: int
    """Separate KV caches: one for the replica, or with attention data parallelism one for each GPU. A request stays in
    one of them."""
    max_streams: int
    """Largest number of requests in a batch of the whole replica. Further requests wait."""
    max_seq_len: int
    problems: tuple[str, ...]
    """Reasons why the engine does not fit or run; empty if it does."""

    def streams(self, length: int) -> int:
        """The number of requests of `length` tokens, prompt and answer, that the replica can run at the same time."""
        tokens = math.ceil(length / TOKENS_PER_BLOCK) * TOKENS_PER_BLOCK
        return min(self.max_streams, self.places * (self.kv_tokens // tokens))


def plan_engine(
    config: TensorRTLLMConfig, model: Mapping[str, Any], *, is_mxfp4: bool, overhead_gib: float = OVERHEAD_GIB
) -> ServePlan:
    """The plan of one replica. `model` is the checkpoint's config.json; `is_mxfp4` says whether experts are MXFP4."""
    gpu, size = GPUS[config.gpu], config.tensor_parallel_size
    weights = _weight_bytes_per_gpu(config, model, gpu, is_mxfp4)
    if config.speculative is not None:
        weights += sum(path.stat().st_size for path in config.speculative.model.glob("*.safetensors"))
    free_gib = gpu.memory_gib - weights / GIB - overhead_gib
    kv_cache_gib = max(0.0, free_gib * config.free_gpu_memory_fraction)
    per_token = kv_bytes_per_token(config, model)
    places = size if config.enable_attention_dp else 1
    plan = ServePlan(
        gpu=gpu,
        gpus=size,
        weights_gib=weights / GIB,
        overhead_gib=overhead_gib,
        kv_cache_gib=kv_cache_gib,
        kv_bytes_per_token=per_token,
        kv_tokens=int(kv_cache_gib * GIB / per_token),
        places=places,
        max_streams=config.max_batch_size * places,
        max_seq_len=config.max_seq_len,
        problems=(),
    )
    problems = [
        *gpu_problems(gpu),
        *kernel_problems(config, is_mxfp4=is_mxfp4),
        *parallelism_problems(config, model),
        *_memory_problems(plan, is_mxfp4),
    ]
    return replace(plan, problems=tuple(problems))


def kv_bytes_per_token(config: TensorRTLLMConfig, model: Mapping[str, Any]) -> int:
    """Bytes of KV cache per token and GPU. TensorRT-LLM 1.2 allocates the full length for sliding-window layers too."""
    size = 1 if config.enable_attention_dp else config.tensor_parallel_size
    heads = math.ceil(int(model["num_key_value_heads"]) / size)
    element_bytes = 1 if kv_cache_dtype(config) == "fp8" else 2
    return 2 * int(model["num_hidden_layers"]) * heads * int(model["head_dim"]) * element_bytes


def _weight_bytes_per_gpu(config: TensorRTLLMConfig, model: Mapping[str, Any], gpu: Gpu, is_mxfp4: bool) -> float:
    """Each GPU holds a share of the experts, and of everything else too unless it computes attention on its own."""
    experts, others = weight_bytes(model, is_mxfp4=is_mxfp4)
    if is_mxfp4:
        experts = loaded_expert_bytes(model, gpu)
    size = config.tensor_parallel_size
    return experts / size + (others if config.enable_attention_dp else others / size)


def _memory_problems(plan: ServePlan, is_mxfp4: bool) -> Iterator[str]:
    """Yields a message if the KV cache cannot hold one request of max_seq_len."""
    if plan.kv_tokens >= plan.max_seq_len:
        return
    request_gib = plan.max_seq_len * plan.kv_bytes_per_token / GIB
    fix = (
        "Use more GPUs (tensor_parallel_size) or a smaller max_seq_len."
        if is_mxfp4
        else "The experts are BF16, which takes four times the memory of MXFP4. Quantise them with "
        f"`python -m {QUANTIZE} SOURCE --format mxfp4`, or use more GPUs (tensor_parallel_size)."
    )
    yield (
        f"each {plan.gpu.name} has {plan.gpu.memory_gib:.1f} GiB. Weights take {plan.weights_gib:.1f} GiB, and "
        f"activations and other memory about {plan.overhead_gib:.1f} GiB, which leaves {plan.kv_cache_gib:.1f} GiB for "
        f"the KV cache. One request of max_seq_len={plan.max_seq_len} takes {request_gib:.2f} GiB. {fix}"
    )
