"""TensorRTLLMConfig: GPUs, parallelism, limits and kernels of a TensorRT-LLM engine, in TensorRT-LLM's field names."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from tuneyard.core.path_fields import AbsolutePath
from tuneyard.core.strict_model import StrictConfig


class SpeculativeConfig(StrictConfig):
    """Speculative decoding with an Eagle3 draft model."""

    model: AbsolutePath
    """Folder of the draft model. It must have been trained for this base model."""

    max_draft_len: int = Field(default=3, ge=1, le=16)
    """Tokens that the draft model proposes per step."""


class TensorRTLLMConfig(StrictConfig):
    """A TensorRT-LLM engine on one GPU, on several GPUs of one node, or on several nodes."""

    gpu: Literal["H100", "H200", "B200", "L4", "L40S", "A100"]
    """GPU type of the replicas. It determines kernels and memory. A replica on another type refuses to start."""

    tensor_parallel_size: int = Field(default=1, ge=1, le=64)
    """GPUs of one replica."""

    moe_expert_parallel_size: int | None = Field(default=None, ge=1)
    """Groups of GPUs among which whole experts are distributed. Must divide tensor_parallel_size. null:
    tensor_parallel_size on Hopper, whose kernels cannot split an expert, and 1 on other GPUs."""

    enable_attention_dp: bool = False
    """Each GPU computes the attention of its own requests, instead of a share of every request. This gives more
    throughput and needs more memory. Requires more than one GPU."""

    attention_dp_batching_wait_iters: int | None = Field(default=None, ge=0)
    """Balances the requests between the GPUs, and waits up to this many iterations for a batch. Requires
    enable_attention_dp. null: no balancing."""

    attention_dp_timeout_iters: int = Field(default=50, ge=0)
    """Iterations after which a request goes to any GPU with room. Read only with attention_dp_batching_wait_iters."""

    max_seq_len: int = Field(default=8192, ge=64, le=131072)
    """Largest number of tokens of prompt and answer together."""

    max_input_len: int | None = Field(default=None, ge=1)
    """Largest number of tokens of a prompt. null: max_seq_len - 1."""

    max_batch_size: int = Field(default=64, ge=1)
    """Requests in one forward pass; with enable_attention_dp, per GPU. Further requests wait in the engine."""

    max_num_tokens: int = Field(default=8192, ge=64)
    """Tokens in one forward pass. The memory for activations grows with it."""

    enable_chunked_prefill: bool = False
    """Splits long prompts into chunks of max_num_tokens. false: no prompt may be longer than max_num_tokens."""

    free_gpu_memory_fraction: float = Field(default=0.9, gt=0, lt=1)
    """Share of the GPU memory that is free after weights and activations, for the KV cache."""

    kv_cache_dtype: Literal["auto", "fp8"] | None = None
    """Precision of the KV cache; `auto` is the model's dtype. null: fp8 on Blackwell and `auto` on other GPUs, as in
    NVIDIA's published settings."""

    enable_block_reuse: bool = True
    """Prompts with the same beginning share blocks of the KV cache."""

    cuda_graph_max_batch_size: int | None = Field(default=None, ge=0)
    """Largest batch that runs as a CUDA graph. 0: no CUDA graphs. null: max_batch_size."""

    moe_backend: Literal["TRITON", "TRTLLM", "CUTLASS"] | None = None
    """Kernels of the experts. null: TRITON on Hopper; on Blackwell TRTLLM for MXFP4 experts and CUTLASS for BF16."""

    attn_backend: Literal["TRTLLM", "FLASHINFER"] = "TRTLLM"
    """Kernels of the attention."""

    guided_decoding_backend: Literal["xgrammar", "llguidance"] | None = None
    """Library that makes answers match a JSON schema. The engine then loads the tokenizer too. Tuneyard writes its
    grammars for `llguidance`; with another value or null, requests with a response_format are refused."""

    speculative: SpeculativeConfig | None = None
    """Speculative decoding. null: none."""

    stream_interval: int = Field(default=1, ge=1)
    """Iterations between two chunks of a stream. A larger number costs less time and sends more tokens at once."""

    orchestrator: Literal["mpi", "ray"] = "mpi"
    """How the processes of several GPUs are started. `mpi`: on the replica's node. `ray`: as actors in a placement
    group, on several nodes too. TensorRT-LLM calls `ray` a prototype, and Tuneyard has not been tested with it on
    GPUs."""

    env: dict[str, str] = Field(default_factory=dict)
    """Environment variables of the replicas, set before TensorRT-LLM is imported."""

    stall_timeout_s: float = Field(default=120.0, gt=0)
    """Seconds without a token from any request, while requests are running, after which the engine counts as failed and
    the replica is restarted. Must be longer than the longest prefill under load."""

    @property
    def max_prompt_tokens(self) -> int:
        """`max_input_len`, with null replaced by its meaning."""
        return self.max_input_len or self.max_seq_len - 1

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if self.max_prompt_tokens >= self.max_seq_len:
            raise ValueError(
                f"max_input_len={self.max_input_len} leaves no room for an answer in max_seq_len={self.max_seq_len}. "
                "Lower max_input_len, or raise max_seq_len"
            )
        if not self.enable_chunked_prefill and self.max_prompt_tokens > self.max_num_tokens:
            raise ValueError(
                f"prompts may have {self.max_prompt_tokens} tokens (max_input_len), but a forward pass takes only "
                f"max_num_tokens={self.max_num_tokens}. Set enable_chunked_prefill: true, lower max_input_len, or "
                "raise max_num_tokens"
            )
        return self

    @model_validator(mode="after")
    def _check_parallelism(self) -> Self:
        experts = self.moe_expert_parallel_size
        if experts is not None and self.tensor_parallel_size % experts:
            raise ValueError(
                f"moe_expert_parallel_size={experts} does not divide tensor_parallel_size={self.tensor_parallel_size}. "
                "Choose a divisor"
            )
        if self.enable_attention_dp and self.tensor_parallel_size == 1:
            raise ValueError(
                "enable_attention_dp needs more than one GPU, but tensor_parallel_size is 1. Raise it, or remove "
                "enable_attention_dp"
            )
        if self.attention_dp_batching_wait_iters is not None and not self.enable_attention_dp:
            raise ValueError("attention_dp_batching_wait_iters needs enable_attention_dp: true, but it is false")
        return self
