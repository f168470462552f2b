"""The config classes, which refuse unknown fields as the real ones do, and other exports of the LLM API."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from tensorrt_llm.executor.result import CompletionOutput, RequestError, RequestOutput
from tensorrt_llm.sampling_params import GuidedDecodingParams

__all__ = ["CompletionOutput", "GuidedDecodingParams", "RequestError", "RequestOutput"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class KvCacheConfig(_Strict):
    enable_block_reuse: bool = True
    free_gpu_memory_fraction: float | None = 0.9
    dtype: str = "auto"


class CudaGraphConfig(_Strict):
    max_batch_size: int = 0
    enable_padding: bool = False


class MoeConfig(_Strict):
    backend: Literal["AUTO", "CUTLASS", "CUTEDSL", "WIDEEP", "TRTLLM", "DEEPGEMM", "VANILLA", "TRITON"] = "AUTO"


class AttentionDpConfig(_Strict):
    enable_balance: bool = False
    timeout_iters: int = 50
    batching_wait_iters: int = 10


class EagleDecodingConfig(_Strict):
    max_draft_len: int | None = None
    speculative_model: str | None = None
    allow_advanced_sampling: bool = False


class TorchLlmArgs(_Strict):
    model: str
    skip_tokenizer_init: bool = False
    trust_remote_code: bool = False
    tensor_parallel_size: int = 1
    moe_expert_parallel_size: int | None = None
    enable_attention_dp: bool = False
    attention_dp_config: AttentionDpConfig | None = None
    max_seq_len: int | None = None
    max_input_len: int | None = 1024
    max_batch_size: int = 2048
    max_num_tokens: int | None = 8192
    enable_chunked_prefill: bool = False
    attn_backend: str = "TRTLLM"
    stream_interval: int = 1
    enable_iter_perf_stats: bool = False
    guided_decoding_backend: Literal["xgrammar", "llguidance"] | None = None
    kv_cache_config: KvCacheConfig = KvCacheConfig()
    moe_config: MoeConfig = MoeConfig()
    cuda_graph_config: CudaGraphConfig | None = CudaGraphConfig()
    speculative_config: Any = None
