"""LlamaCppConfig: form of the weights, slots, threads, GPU layers and KV cache of a llama.cpp engine."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from tuneyard.checkpoints.gguf.gguf_types import GgufType
from tuneyard.core.strict_model import StrictConfig

CacheType = Literal["f32", "f16", "bf16", "q8_0"]
"""Precision of keys or values in the KV cache."""

SLOT_CELLS = 256
"""llama.cpp rounds the tokens of a slot up to a multiple of this."""


class LlamaCppConfig(StrictConfig):
    """A llama.cpp engine, on CPUs or GPUs, in llama.cpp's field names."""

    weights: GgufType
    """Form of the weights in the GGUF file that each node makes of the checkpoint. `f32` and `bf16` keep the values of
    a BF16 checkpoint, and `mxfp4` those of an MXFP4 one, bit for bit. `q8_0` rounds them to 8 bits: the fastest on most
    CPUs. `f16` rounds very small values. With `q8_0` and `mxfp4`, llama.cpp rounds activations to 8 bits too."""

    n_ctx: int = Field(default=16384, ge=64)
    """Tokens in the KV cache, over all slots. Each slot has n_ctx / n_parallel of them, for prompt and answer of one
    request together."""

    n_parallel: int = Field(default=4, ge=1, le=256)
    """Slots: requests that are answered at the same time. Further requests wait in the engine."""

    n_batch: int = Field(default=512, ge=32)
    """Tokens in one forward pass, over all slots. A prompt is prefilled in passes of this size, and a request can be
    cancelled between two passes."""

    n_ubatch: int = Field(default=512, ge=32)
    """Tokens that are computed at once within a forward pass. Must not be larger than n_batch."""

    n_threads: int = Field(default=1, ge=1)
    """Threads that generate tokens. They wait actively, so a replica needs a CPU of its own for each: set
    replicas.num_cpus to at least this number."""

    n_threads_batch: int | None = Field(default=None, ge=1)
    """Threads that prefill prompts. null: n_threads."""

    n_gpu_layers: int | None = Field(default=None, ge=0)
    """Layers on the GPU. Needs a GPU for the replica (replicas.num_gpus) and an xllamacpp that is built for it. null:
    all layers if there are both, else none."""

    flash_attn: Literal["auto", "on", "off"] = "off"
    """Whether attention is computed in one kernel, which is faster on GPUs. On CPUs it is not, and it computes in f16
    whatever the KV cache holds. `auto`: where the device supports it, CPUs included."""

    cache_type_k: CacheType = "f16"
    """Precision of the keys in the KV cache."""

    cache_type_v: CacheType = "f16"
    """Precision of the values in the KV cache. `q8_0` needs flash_attn."""

    swa_full: bool = True
    """Keeps all tokens in the KV cache of layers with a sliding window. false keeps only those of the window, which
    takes less memory. Then a prompt that shares its beginning with an earlier one is often prefilled anew, and the last
    tokens are too, wherever a penalty or a grammar makes the engine choose again."""

    stall_timeout_s: float = Field(default=300.0, gt=0)
    """Seconds without a token or a prefilled batch, while requests are running, after which the engine counts as failed
    and the replica is restarted. Must be longer than the prefill of n_batch tokens."""

    @property
    def max_model_len(self) -> int:
        """Tokens of a slot: the largest number of tokens of prompt and answer together."""
        return self.n_ctx // self.n_parallel

    @property
    def slot_cells(self) -> int:
        """Tokens of a slot in llama.cpp's KV cache: one more, because it ends an answer before the slot is full."""
        return -(-(self.max_model_len + 1) // SLOT_CELLS) * SLOT_CELLS

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.n_ubatch > self.n_batch:
            raise ValueError(
                f"n_ubatch={self.n_ubatch} is larger than n_batch={self.n_batch}. Lower n_ubatch, or raise n_batch"
            )
        if self.max_model_len < 64:
            raise ValueError(
                f"n_ctx={self.n_ctx} leaves {self.max_model_len} tokens for each of n_parallel={self.n_parallel} "
                "slots; a slot needs at least 64. Raise n_ctx, or lower n_parallel"
            )
        if self.cache_type_v == "q8_0" and self.flash_attn == "off":
            raise ValueError("cache_type_v: q8_0 needs flash_attn, but flash_attn is off. Set it to auto or on")
        return self
