"""Loads GPT-OSS checkpoints with transformers as unquantised models that can be trained or measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import accelerate
import torch
import transformers

from tuneyard.checkpoints.layout.gpt_oss import is_mxfp4

TRANSFORMERS_4 = transformers.__version__.startswith("4.")
"""True in NeMo's environment. transformers 4 has one implementation of the experts and no option to choose it."""


def load_dequantised(
    folder: Path,
    dtype: torch.dtype | str,
    *,
    on_gpu: bool,
    attention: str = "eager",
    experts: str | None = None,
    device_map: str | None = None,
) -> Any:
    """The checkpoint in `folder` as an unquantised transformers model; MXFP4 experts are dequantised.

    `attention` is transformers' attn_implementation: `eager` has sinks and a backward pass on every device. `experts`
    is its experts_implementation; None takes its default on a GPU and `eager` on a CPU. `dtype` and `device_map` are
    those of `from_pretrained`.
    """
    model = transformers.GptOssForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        device_map=device_map,
        attn_implementation=attention,
        **_experts_option(experts, on_gpu),
        **({"quantization_config": transformers.Mxfp4Config(dequantize=True)} if is_mxfp4(folder) else {}),
    )
    # transformers keeps the field, but the weights in memory are not quantised any more.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model


def load_for_measuring(folder: Path) -> Any:
    """The checkpoint in `folder` for a forward pass: MXFP4 experts are dequantised.

    On a CPU it is in fp32. On a GPU it has the checkpoint's dtype, and layers that do not fit the GPU are kept in main
    memory or on disk.
    """
    on_gpu = torch.cuda.is_available()
    transformers.utils.logging.disable_progress_bar()
    # Hides transformers' warning that it dequantises MXFP4 on a CPU, which is intended here.
    transformers.utils.logging.set_verbosity_error()
    model = load_dequantised(
        folder, "auto" if on_gpu else torch.float32, on_gpu=on_gpu, device_map="auto" if on_gpu else None
    ).eval()
    return model if on_gpu else model.float()


def empty_dequantised(
    folder: Path, dtype: torch.dtype, *, on_gpu: bool, attention: str = "eager", experts: str | None = None
) -> Any:
    """The model that load_dequantised returns, but with parameters on PyTorch's meta device: they take no memory.

    Its buffers are on the CPU and have their values.
    """
    config = transformers.GptOssConfig.from_pretrained(folder)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with accelerate.init_empty_weights():
        return transformers.GptOssForCausalLM._from_config(
            config, dtype=dtype, attn_implementation=attention, **_experts_option(experts, on_gpu)
        )


def _experts_option(experts: str | None, on_gpu: bool) -> dict[str, str]:
    # On a CPU, transformers' default (grouped_mm) was up to 7.5 times slower than eager.
    experts = experts or (None if on_gpu or TRANSFORMERS_4 else "eager")
    return {"experts_implementation": experts} if experts else {}
