"""GPT-OSS checkpoints loaded by transformers as models that can be trained or measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from tuneyard.checkpoints.layout.gpt_oss import is_mxfp4

TRANSFORMERS_4 = transformers.__version__.startswith("4.")
"""NeMo's environment has it; its experts have one implementation, the eager one."""


def load_dequantised(
    folder: Path, dtype: torch.dtype | str, *, on_gpu: bool, experts: str | None = None, device_map: str | None = None
) -> Any:
    """A checkpoint as a model that is not quantised, whatever its experts are; `experts` names their kernels."""
    # grouped_mm, transformers' default, was up to 7.5 times slower on a CPU.
    experts = experts or (None if on_gpu or TRANSFORMERS_4 else "eager")
    model = transformers.GptOssForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        device_map=device_map,
        attn_implementation="eager",  # the one that implements sinks and has a backward pass everywhere
        **({"experts_implementation": experts} if experts else {}),
        **({"quantization_config": transformers.Mxfp4Config(dequantize=True)} if is_mxfp4(folder) else {}),
    )
    # What is trained, and exported, is not quantised any more.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model


def unquantised_config(base: Path) -> Any:
    """The base's config as an export has it: published GPT-OSS is MXFP4, an export is in the base's dtype."""
    config = transformers.AutoConfig.from_pretrained(base)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return config
