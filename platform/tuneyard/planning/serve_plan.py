"""Whether a TensorRT-LLM engine fits its GPUs, by arithmetic: weights as its kernels lay them out, and KV cache.

A draft model counts with its files on each GPU; its own small cache is left out.

Nothing here was held against a GPU. TensorRT-LLM measures activations itself when it starts ("Peak memory" in its log);
until then they are an assumption that the plan names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tuneyard.checkpoints.layout.gpt_oss import expected_mxfp4_tensors, expected_tensors
from tuneyard.configs.tensorrt_llm import TensorRTLLMConfig
from tuneyard.core.room_commands import QUANTIZE
from tuneyard.planning.gpus import GPUS, Gpu
from tuneyard.planning.tensorrt_llm_arguments import kernel_problems, kv_cache_dtype, parallelism_problems

GIB = 2**30
OVERHEAD_GIB = 4.0
"""Activations, CUDA context, NCCL and graphs, per GPU: an assumption, nothing is published."""

TOKENS_PER_BLOCK = 32

PUBLISHED = {
    size: {
        "num_hidden_layers": layers,
        "num_local_experts": experts,
        "hidden_size": 2880,
        "intermediate_size": 2880,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 201088,
        "max_position_embeddings": 131072,
    }
    for size, layers, experts in (("20b", 24, 32), ("120b", 36, 128))
}
"""Sizes of openai/gpt-oss-20b and -120b, for a plan before there is a checkpoint."""


@dataclass(frozen=True, slots=True)
class ServePlan:
    """What a replica holds on each of its GPUs (GiB), and what that leaves. `problems` is empty when it fits."""

    gpu: Gpu
    gpus: int
    weights_gib: float
    overhead_gib: float
    kv_cache_gib: float
    kv_bytes_per_token: int
    kv_tokens: int
    """Of each place that holds requests: the replica, or with attention DP each of its GPUs."""

    places: int
    max_streams: int
    """max_batch_size over the whole replica; more wait."""

    max_seq_len: int
    problems: tuple[str, ...]

    def streams(self, length: int) -> int:
        """Requests of `length` tokens that the replica can hold at a time."""
        blocks = math.ceil(length / TOKENS_PER_BLOCK) * TOKENS_PER_BLOCK
        return min(self.max_streams, self.places * (self.kv_tokens // blocks))


def plan_engine(
    config: TensorRTLLMConfig, model: Mapping[str, Any], *, is_mxfp4: bool, overhead_gib: float = OVERHEAD_GIB
) -> ServePlan:
    """The plan of one replica; `model` is the checkpoint's config.json."""
    gpu, size = GPUS[config.gpu], config.tensor_parallel_size
    weights = _weights_per_gpu(config, model, gpu, is_mxfp4)
    if config.speculative is not None:
        weights += sum(path.stat().st_size for path in config.speculative.model.glob("*.safetensors"))
    free = gpu.memory_gib - weights / GIB - overhead_gib
    kv_gib = max(0.0, free * config.free_gpu_memory_fraction)
    per_token = kv_bytes_per_token(config, model)
    ranks = size if config.enable_attention_dp else 1
    plan = ServePlan(
        gpu=gpu,
        gpus=size,
        weights_gib=weights / GIB,
        overhead_gib=overhead_gib,
        kv_cache_gib=kv_gib,
        kv_bytes_per_token=per_token,
        kv_tokens=int(kv_gib * GIB / per_token),
        places=ranks,
        max_streams=config.max_batch_size * ranks,
        max_seq_len=config.max_seq_len,
        problems=(),
    )
    problems = [
        *_gpu_problems(gpu),
        *kernel_problems(config, is_mxfp4=is_mxfp4),
        *parallelism_problems(config, model),
        *_memory_problems(plan, is_mxfp4),
    ]
    return replace(plan, problems=tuple(problems))


def kv_bytes_per_token(config: TensorRTLLMConfig, model: Mapping[str, Any]) -> int:
    """KV cache per token and GPU. TensorRT-LLM 1.2 gives sliding-window layers a cache of full length too."""
    size = 1 if config.enable_attention_dp else config.tensor_parallel_size
    heads = math.ceil(int(model["num_key_value_heads"]) / size)
    width = 1 if kv_cache_dtype(config) == "fp8" else 2
    return 2 * int(model["num_hidden_layers"]) * heads * int(model["head_dim"]) * width


def weight_bytes(model: Mapping[str, Any], *, is_mxfp4: bool) -> tuple[int, int]:
    """Bytes of the experts and of all else as a checkpoint holds them: BF16, or MXFP4 experts."""
    experts = rest = 0
    for name, shape in (expected_mxfp4_tensors(model) if is_mxfp4 else expected_tensors(model)).items():
        taken = math.prod(shape) * (1 if name.endswith(("_blocks", "_scales")) else 2)
        if ".experts." in name:
            experts += taken
        else:
            rest += taken
    return experts, rest


def loaded_expert_bytes(model: Mapping[str, Any], gpu: Gpu) -> int:
    """Bytes of MXFP4 experts once loaded: the kernels pad their matrices, and keep biases in fp32.

    TRITON pads what goes in to 128 and what comes out to 256 (fused_moe_triton.py); TRTLLM the hidden size to 512 and
    the experts' to 128.
    """
    hidden, inner = int(model["hidden_size"]), int(model["intermediate_size"])
    if gpu.is_hopper:
        matrices = [(_padded(hidden, 128), _padded(2 * inner, 256)), (_padded(inner, 128), _padded(hidden, 256))]
    else:
        matrices = [(_padded(hidden, 512), 2 * _padded(inner, 128)), (_padded(inner, 128), _padded(hidden, 512))]
    per_expert = sum(wide_in * out // 2 + wide_in * out // 32 + 4 * out for wide_in, out in matrices)
    return per_expert * int(model["num_local_experts"]) * int(model["num_hidden_layers"])


def _weights_per_gpu(config: TensorRTLLMConfig, model: Mapping[str, Any], gpu: Gpu, is_mxfp4: bool) -> float:
    """Experts are dealt out or cut over the GPUs; all else too, unless each GPU does its own attention."""
    experts, rest = weight_bytes(model, is_mxfp4=is_mxfp4)
    if is_mxfp4:
        experts = loaded_expert_bytes(model, gpu)
    size = config.tensor_parallel_size
    return experts / size + (rest if config.enable_attention_dp else rest / size)


def _padded(size: int, multiple: int) -> int:
    return math.ceil(size / multiple) * multiple


def _gpu_problems(gpu: Gpu) -> Iterator[str]:
    if not gpu.is_hopper and not gpu.is_blackwell:
        yield (
            f"{gpu.name} (SM {gpu.sm}) has no kernels for GPT-OSS's experts in TensorRT-LLM: H100, H200 and B200 have. "
            "The transformers engine runs there."
        )


def _memory_problems(plan: ServePlan, is_mxfp4: bool) -> Iterator[str]:
    need = plan.max_seq_len * plan.kv_bytes_per_token / GIB
    if plan.kv_tokens >= plan.max_seq_len:
        return
    yield (
        f"each {plan.gpu.name} has {plan.gpu.memory_gib:.1f} GiB; weights take {plan.weights_gib:.1f}, activations and "
        f"the rest about {plan.overhead_gib:.1f}, which leaves {plan.kv_cache_gib:.1f} GiB for the KV cache, and one "
        f"request of max_seq_len={plan.max_seq_len} takes {need:.2f}. "
        + ("Use more GPUs (tensor_parallel_size) or a smaller max_seq_len." if is_mxfp4 else _BF16_FIX)
    )


_BF16_FIX = (
    f"The experts are BF16, four times the size of MXFP4: python -m {QUANTIZE} SOURCE --format mxfp4, "
    "or more GPUs (tensor_parallel_size)."
)
