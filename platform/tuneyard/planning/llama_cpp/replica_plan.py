"""LlamaCppPlan: disk, weights, KV cache and process of a llama.cpp replica on CPUs.

Source for the weights that are repacked: llama.cpp's ggml/src/ggml-cpu/repack.cpp. Tests compare the plan with what
xllamacpp reports when it loads a model, and with the peak of a process.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuneyard.checkpoints.gguf.gguf_types import GgufType, encoded_bytes, matrix_dtype
from tuneyard.checkpoints.layout.gpt_oss import expected_tensors, is_expert_matrix
from tuneyard.configs.engines.llama_cpp import LlamaCppConfig
from tuneyard.core.errors import ConfigError
from tuneyard.core.room_commands import QUANTIZE
from tuneyard.planning.llama_cpp.compute_buffers import cache_cells, compute_bytes

PROCESS_BYTES = 800_000_000
"""A replica's process without a model: Python, Ray Serve, the tokenizer in two forms, llama.cpp's vocabulary. Of 20B's
vocabulary 670 MB were measured without Ray's connections; the rest is for those, estimated."""

VALUE_BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32}
"""Bytes of a value in the KV cache."""


@dataclass(frozen=True, slots=True)
class LlamaCppPlan:
    """Bytes of one replica. `tuneyard serve plan --json` prints these fields and `needed_bytes`."""

    checkpoint_bytes: int
    """On disk: the checkpoint's weights."""
    weights_bytes: int
    """The GGUF file's tensors. On disk in the node's cache; in memory as pages of the file."""
    repacked_bytes: int
    """Part of the weights that llama.cpp also copies into another order, which its kernels for this CPU read."""
    kv_cache_bytes: int
    """The keys and values of all slots, reserved when the model is loaded."""
    compute_bytes: int
    """Intermediate values of one forward pass of n_ubatch tokens, and the logits."""
    process_bytes: int
    slots: int
    max_model_len: int
    """Tokens of one request, prompt and answer."""

    @property
    def allocated_bytes(self) -> int:
        """What llama.cpp allocates beyond the pages of the file."""
        return self.repacked_bytes + self.kv_cache_bytes + self.compute_bytes

    @property
    def needed_bytes(self) -> int:
        """Main memory of a replica. Pages of the file that were repacked are left out: the system can drop them."""
        return self.process_bytes + self.allocated_bytes + self.weights_bytes - self.repacked_bytes


def plan_llama_cpp(config: LlamaCppConfig, model: Mapping[str, Any], *, is_mxfp4: bool) -> LlamaCppPlan:
    """The plan of one replica on CPUs. `model` is the checkpoint's config.json, with its matrices in BF16.

    `is_mxfp4` says whether the checkpoint's experts are MXFP4. Raises ConfigError if they are not, and `weights` is.
    """
    if config.weights == GgufType.MXFP4 and not is_mxfp4:
        raise ConfigError(
            "engine.llama_cpp.weights: mxfp4 needs a checkpoint with experts in MXFP4, and these are BF16. Quantise "
            f"them with `python -m {QUANTIZE} SOURCE --format mxfp4`, or choose q8_0."
        )
    weights, repacked = _gguf_bytes(model, config.weights)
    window, full = cache_cells(config, model)
    sliding_layers = math.ceil(int(model["num_hidden_layers"]) / 2)
    full_layers = int(model["num_hidden_layers"]) - sliding_layers
    per_cell = kv_bytes_per_token_and_layer(config, model)
    stored = GgufType.MXFP4 if is_mxfp4 else GgufType.BF16
    return LlamaCppPlan(
        checkpoint_bytes=_gguf_bytes(model, stored)[0],
        weights_bytes=weights,
        repacked_bytes=repacked,
        kv_cache_bytes=config.n_parallel * (sliding_layers * window + full_layers * full) * per_cell,
        compute_bytes=compute_bytes(config, model, window, full),
        process_bytes=PROCESS_BYTES,
        slots=config.n_parallel,
        max_model_len=min(config.max_model_len, int(model["max_position_embeddings"])),
    )


def kv_bytes_per_token_and_layer(config: LlamaCppConfig, model: Mapping[str, Any]) -> int:
    """Bytes of a token's keys and values in one layer."""
    values = int(model["num_key_value_heads"]) * int(model["head_dim"])
    return int(values * (VALUE_BYTES[config.cache_type_k] + VALUE_BYTES[config.cache_type_v]))


def _gguf_bytes(model: Mapping[str, Any], kind: GgufType) -> tuple[int, int]:
    """Bytes of the tensors of a GGUF file, and of those that llama.cpp repacks.

    On x86 with AVX2 and on ARM it repacks MXFP4. Of q8_0 it does so on ARM only, which the plan leaves out.
    """
    total = repacked = 0
    for name, shape in expected_tensors(model).items():
        is_expert = is_expert_matrix(name, shape)
        is_matrix = is_expert or (name.endswith(".weight") and len(shape) > 1 and "router" not in name)
        dtype = matrix_dtype(kind, "BF16", is_expert=is_expert) if is_matrix else "F32"
        size = encoded_bytes(shape, dtype)
        total += size
        repacked += size if dtype == "MXFP4" else 0
    return total, repacked
