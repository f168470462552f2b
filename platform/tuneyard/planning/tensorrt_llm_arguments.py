"""Config and model -> the arguments of TensorRT-LLM's LLM, as plain data: printed by a plan, tested without it.

Names as in serve_apps/engines/tensorrt_llm_contract.json, sections as dicts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tuneyard.configs.tensorrt_llm import TensorRTLLMConfig
from tuneyard.core.errors import ConfigError
from tuneyard.planning.gpus import GPUS


def llm_arguments(config: TensorRTLLMConfig, *, is_mxfp4: bool) -> dict[str, Any]:
    """All that is passed to LLM besides the model's folder. Raises ConfigError for a GPU without kernels for it."""
    gpu = GPUS[config.gpu]
    arguments: dict[str, Any] = {
        # Token ids in, token ids out; only grammars need the tokenizer.
        "skip_tokenizer_init": config.guided_decoding_backend is None,
        "trust_remote_code": False,
        "tensor_parallel_size": config.tensor_parallel_size,
        "moe_expert_parallel_size": expert_parallel_size(config),
        "enable_attention_dp": config.enable_attention_dp,
        "max_seq_len": config.max_seq_len,
        "max_input_len": config.longest_prompt,
        "max_batch_size": config.max_batch_size,
        "max_num_tokens": config.max_num_tokens,
        "enable_chunked_prefill": config.enable_chunked_prefill,
        "attn_backend": config.attn_backend,
        "stream_interval": config.stream_interval,
        # Without it get_stats gives nothing.
        "enable_iter_perf_stats": True,
        "kv_cache_config": {
            "free_gpu_memory_fraction": config.free_gpu_memory_fraction,
            "dtype": kv_cache_dtype(config),
            "enable_block_reuse": config.enable_block_reuse,
        },
        "moe_config": {"backend": _moe_backend(config, is_mxfp4)},
        "cuda_graph_config": None,
    }
    graphs = config.max_batch_size if config.cuda_graph_max_batch_size is None else config.cuda_graph_max_batch_size
    if graphs:
        arguments["cuda_graph_config"] = {"max_batch_size": graphs, "enable_padding": True}
    if config.attention_dp_batching_wait_iters is not None:
        arguments["attention_dp_config"] = {
            "enable_balance": True,
            "batching_wait_iters": config.attention_dp_batching_wait_iters,
            "timeout_iters": config.attention_dp_timeout_iters,
        }
    if config.guided_decoding_backend is not None:
        arguments["guided_decoding_backend"] = config.guided_decoding_backend
    if config.speculative is not None:
        arguments["speculative_config"] = {
            "speculative_model": str(config.speculative.model),
            "max_draft_len": config.speculative.max_draft_len,
            # Else requests with a temperature are answered greedily, without a word.
            "allow_advanced_sampling": True,
        }
    if not gpu.is_hopper and not gpu.is_blackwell:
        raise ConfigError(
            f"engine.tensorrt_llm.gpu: {gpu.name} (SM {gpu.sm}) cannot run GPT-OSS's experts in TensorRT-LLM: "
            "it has kernels for Hopper (H100, H200) and Blackwell (B200). Use the transformers engine there."
        )
    return arguments


def kernel_problems(config: TensorRTLLMConfig, *, is_mxfp4: bool) -> Iterator[str]:
    """Experts' kernels that do not run on this GPU, or with these weights."""
    gpu, asked = GPUS[config.gpu], config.moe_backend
    if asked == "TRTLLM" and gpu.is_hopper:
        yield f"moe_backend=TRTLLM does not run on {gpu.name}; leave it out, or TRITON."
    if asked == "TRTLLM" and not is_mxfp4:
        yield "moe_backend=TRTLLM runs MXFP4 experts only, and these are BF16; leave it out, or CUTLASS."
    if asked == "TRITON" and not gpu.is_hopper:
        yield f"moe_backend=TRITON is made for Hopper, this is {gpu.name}; leave it out."


def parallelism_problems(config: TensorRTLLMConfig, model: Mapping[str, Any]) -> Iterator[str]:
    """Where the GPUs do not divide the model, with both numbers; `model` is its config.json."""
    size, gpu = config.tensor_parallel_size, GPUS[config.gpu]
    heads, kv_heads, experts = (
        int(model[name]) for name in ("num_attention_heads", "num_key_value_heads", "num_local_experts")
    )
    if not config.enable_attention_dp and heads % size:
        yield f"tensor_parallel_size={size} does not divide the model's {heads} attention heads."
    if not config.enable_attention_dp and kv_heads % size and size % kv_heads:
        yield f"tensor_parallel_size={size} and the model's {kv_heads} key/value heads: neither divides the other."
    groups = expert_parallel_size(config)
    if experts % groups:
        yield f"moe_expert_parallel_size={groups} does not divide the model's {experts} experts."
    if gpu.is_hopper and groups != size:
        yield (
            f"moe_expert_parallel_size={groups} with tensor_parallel_size={size}: on {gpu.name} the experts' kernels "
            "(TRITON) deal out whole experts only. Make them equal."
        )
    longest = int(model["max_position_embeddings"])
    if config.max_seq_len > longest:
        yield f"max_seq_len={config.max_seq_len} is more than the model's context of {longest} tokens."


def expert_parallel_size(config: TensorRTLLMConfig) -> int:
    """moe_expert_parallel_size, resolved."""
    if config.moe_expert_parallel_size is not None:
        return config.moe_expert_parallel_size
    return config.tensor_parallel_size if GPUS[config.gpu].is_hopper else 1


def kv_cache_dtype(config: TensorRTLLMConfig) -> str:
    """kv_cache_dtype, resolved."""
    return config.kv_cache_dtype or ("fp8" if GPUS[config.gpu].is_blackwell else "auto")


def _moe_backend(config: TensorRTLLMConfig, is_mxfp4: bool) -> str:
    if config.moe_backend is not None:
        return config.moe_backend
    if GPUS[config.gpu].is_hopper:
        return "TRITON"
    return "TRTLLM" if is_mxfp4 else "CUTLASS"
