"""The arguments of TensorRT-LLM's LLM class as plain data, so that they can be printed and tested without the package.

Names are those of serve_apps/engines/tensorrt_llm_contract.json; nested config objects are dicts.
"""

from __future__ import annotations

from typing import Any

from tuneyard.configs.engines.tensorrt_llm import TensorRTLLMConfig
from tuneyard.core.errors import ConfigError
from tuneyard.planning.gpus import GPUS
from tuneyard.planning.tensorrt_llm_checks import gpu_problems
from tuneyard.planning.tensorrt_llm_defaults import expert_parallel_size, kv_cache_dtype, moe_backend


def llm_arguments(config: TensorRTLLMConfig, *, is_mxfp4: bool) -> dict[str, Any]:
    """Returns all arguments of LLM except the model's folder. Raises ConfigError if the GPU type has no kernels."""
    for problem in gpu_problems(GPUS[config.gpu]):
        raise ConfigError(f"engine.tensorrt_llm.gpu: {problem}")
    arguments: dict[str, Any] = {
        # Prompts and answers are token ids, so only grammars need the tokenizer.
        "skip_tokenizer_init": config.guided_decoding_backend is None,
        "trust_remote_code": False,
        "tensor_parallel_size": config.tensor_parallel_size,
        "moe_expert_parallel_size": expert_parallel_size(config),
        "enable_attention_dp": config.enable_attention_dp,
        "max_seq_len": config.max_seq_len,
        "max_input_len": config.max_prompt_tokens,
        "max_batch_size": config.max_batch_size,
        "max_num_tokens": config.max_num_tokens,
        "enable_chunked_prefill": config.enable_chunked_prefill,
        "attn_backend": config.attn_backend,
        "stream_interval": config.stream_interval,
        # Without it, get_stats returns nothing.
        "enable_iter_perf_stats": True,
        "kv_cache_config": {
            "free_gpu_memory_fraction": config.free_gpu_memory_fraction,
            "dtype": kv_cache_dtype(config),
            "enable_block_reuse": config.enable_block_reuse,
        },
        "moe_config": {"backend": moe_backend(config, is_mxfp4=is_mxfp4)},
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
            # Without it, requests with a temperature are silently answered greedily.
            "allow_advanced_sampling": True,
        }
    return arguments
