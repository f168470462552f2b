"""What a TensorRT-LLM engine is made of, in TensorRT-LLM's own field names where a field means the same."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from tuneyard.core.strict_config import AbsolutePath, StrictConfig


class SpeculativeConfig(StrictConfig):
    """Speculative decoding with an Eagle3 draft model."""

    model: AbsolutePath
    """Folder of the draft model, made for this very base."""

    max_draft_len: int = Field(default=3, ge=1, le=16)
    """Tokens drafted per step."""


class TensorRTLLMConfig(StrictConfig):
    """An engine on one GPU, or on several of one node or of a cluster."""

    gpu: Literal["H100", "H200", "B200", "L4", "L40S", "A100"]
    """The GPU that replicas get: decides kernels and the memory plan. A replica on another kind refuses to start."""

    tensor_parallel_size: int = Field(default=1, ge=1, le=64)
    """GPUs of one replica."""

    moe_expert_parallel_size: int | None = Field(default=None, ge=1)
    """Groups among which the experts are dealt out. null: as many as GPUs on Hopper, whose kernels cannot cut an
    expert; 1 elsewhere."""

    enable_attention_dp: bool = False
    """Attention on each GPU for its own requests, instead of cut across them: more throughput, more memory."""

    attention_dp_batching_wait_iters: int | None = Field(default=None, ge=0)
    """With attention DP: balance the GPUs, and wait so many iterations for a batch. null: no balancing."""

    attention_dp_timeout_iters: int = Field(default=50, ge=0)
    """With balancing: iterations after which a request goes wherever there is room."""

    max_seq_len: int = Field(default=8192, ge=64, le=131072)
    """The context in tokens, prompt and answer together."""

    max_input_len: int | None = Field(default=None, ge=1)
    """Longest prompt in tokens; null: one less than max_seq_len."""

    max_batch_size: int = Field(default=64, ge=1)
    """Requests in one forward pass (with attention DP: per GPU); more wait in the engine."""

    max_num_tokens: int = Field(default=8192, ge=64)
    """Tokens of one forward pass. Activations grow with it."""

    enable_chunked_prefill: bool = False
    """Prefill long prompts in parts of max_num_tokens. Without it no prompt may be longer than max_num_tokens."""

    free_gpu_memory_fraction: float = Field(default=0.9, gt=0, lt=1)
    """Share of the memory that weights and activations leave, for the KV cache."""

    kv_cache_dtype: Literal["auto", "fp8"] | None = None
    """null: fp8 on Blackwell, the model's own dtype elsewhere, as NVIDIA publishes."""

    enable_block_reuse: bool = True
    """Prompts that begin alike share KV blocks."""

    cuda_graph_max_batch_size: int | None = Field(default=None, ge=0)
    """Largest batch with a CUDA graph; null: max_batch_size. 0: no graphs."""

    moe_backend: Literal["TRITON", "TRTLLM", "CUTLASS"] | None = None
    """Kernels of the experts. null: TRITON on Hopper; on Blackwell TRTLLM for MXFP4, CUTLASS for BF16."""

    attn_backend: Literal["TRTLLM", "FLASHINFER"] = "TRTLLM"
    guided_decoding_backend: Literal["xgrammar", "llguidance"] | None = None
    """What enforces grammars; it makes the engine load the tokenizer too."""

    speculative: SpeculativeConfig | None = None
    stream_interval: int = Field(default=1, ge=1)
    """Iterations between two chunks of a stream: more is cheaper, and comes in larger pieces."""

    orchestrator: Literal["mpi", "ray"] = "mpi"
    """How several GPUs are driven: `mpi`, worker processes on the replica's node. `ray`: actors in a placement group,
    over several nodes too; TensorRT-LLM calls that a prototype, and nobody has run it here."""

    env: dict[str, str] = Field(default_factory=dict)
    """Environment variables of the replicas, set before TensorRT-LLM is imported."""

    stall_timeout_s: float = Field(default=120.0, gt=0)
    """Requests that wait and no token from any for so long: the engine counts as dead, and the replica is restarted.
    Longer than the longest prefill under load."""

    @property
    def longest_prompt(self) -> int:
        """max_input_len, resolved."""
        return self.max_input_len or self.max_seq_len - 1

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.longest_prompt >= self.max_seq_len:
            raise ValueError(
                f"max_input_len={self.max_input_len} leaves no room for an answer in max_seq_len={self.max_seq_len}"
            )
        if not self.enable_chunked_prefill and self.longest_prompt > self.max_num_tokens:
            raise ValueError(
                f"prompts may have {self.longest_prompt} tokens (max_input_len), a forward pass takes "
                f"max_num_tokens={self.max_num_tokens}: set enable_chunked_prefill: true, or make them fit"
            )
        experts = self.moe_expert_parallel_size
        if experts is not None and self.tensor_parallel_size % experts:
            raise ValueError(
                f"moe_expert_parallel_size={experts} does not divide tensor_parallel_size={self.tensor_parallel_size}"
            )
        if self.enable_attention_dp and self.tensor_parallel_size == 1:
            raise ValueError("enable_attention_dp needs more than one GPU, and tensor_parallel_size is 1")
        if self.attention_dp_batching_wait_iters is not None and not self.enable_attention_dp:
            raise ValueError("attention_dp_batching_wait_iters belongs to enable_attention_dp, which is false")
        return self
