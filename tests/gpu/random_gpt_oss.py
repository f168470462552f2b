"""GPT-OSS models of the published shapes with random weights, built on the GPU: no file holds their 42 GB."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import torch
from transformers import GptOssConfig, GptOssForCausalLM

PUBLISHED = Path(__file__).parent / "gpt_oss_20b_config.json"
"""config.json of openai/gpt-oss-20b, as it is published."""

SINK_SPREAD = 2.0
"""Standard deviation of the sinks. transformers' own, 0.02, would hide an attention that leaves sinks out."""


def published_config(layers: int | None = None) -> GptOssConfig:
    """20B's config without its quantisation; with `layers`, only of its first layers."""
    fields = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    del fields["quantization_config"]
    if layers is not None:
        fields |= {"num_hidden_layers": layers, "layer_types": fields["layer_types"][:layers]}
    return GptOssConfig(**fields)


def build_on_gpu(
    config: GptOssConfig,
    attention: str = "eager",
    experts: str | None = None,
    dtype: torch.dtype = torch.bfloat16,
    device: str = "cuda",
) -> Any:
    """A model with random weights of transformers' own spread. The same seed gives the same weights."""
    torch.manual_seed(0)
    options = {"experts_implementation": experts} if experts else {}
    with torch.device(device):
        model = GptOssForCausalLM._from_config(config, dtype=dtype, attn_implementation=attention, **options)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.sinks.normal_(std=SINK_SPREAD)
    return model


def free_gpu() -> None:
    """Returns what no object holds any more to the GPU, and starts to measure the peak anew."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def peak_gib() -> dict[str, float]:
    """The peak since `free_gpu`: what tensors took, and what PyTorch reserved for them."""
    return {
        "peak_allocated_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
        "peak_reserved_gib": round(torch.cuda.max_memory_reserved() / 2**30, 2),
    }
