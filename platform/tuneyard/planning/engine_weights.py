"""Bytes of a GPT-OSS model's weights: in a checkpoint, and after TensorRT-LLM has loaded them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tuneyard.checkpoints.layout.gpt_oss import expected_mxfp4_tensors, expected_tensors
from tuneyard.planning.gpus import Gpu


def weight_bytes(model: Mapping[str, Any], *, is_mxfp4: bool) -> tuple[int, int]:
    """Bytes of the experts and of everything else in a checkpoint in BF16, with experts in MXFP4 or BF16.

    `model` is the content of config.json.
    """
    experts = others = 0
    for name, shape in (expected_mxfp4_tensors(model) if is_mxfp4 else expected_tensors(model)).items():
        tensor_bytes = math.prod(shape) * (1 if name.endswith(("_blocks", "_scales")) else 2)
        if ".experts." in name:
            experts += tensor_bytes
        else:
            others += tensor_bytes
    return experts, others


def loaded_expert_bytes(model: Mapping[str, Any], gpu: Gpu) -> int:
    """Bytes of all MXFP4 experts after loading. The kernels pad the matrices and keep biases in fp32.

    TRITON (Hopper) pads the input size to a multiple of 128 and the output size to one of 256 (fused_moe_triton.py).
    TRTLLM (Blackwell) pads the hidden size to a multiple of 512 and the experts' size to one of 128.
    """
    hidden, inner = int(model["hidden_size"]), int(model["intermediate_size"])
    if gpu.is_hopper:
        matrices = [(_padded(hidden, 128), _padded(2 * inner, 256)), (_padded(inner, 128), _padded(hidden, 256))]
    else:
        matrices = [(_padded(hidden, 512), 2 * _padded(inner, 128)), (_padded(inner, 128), _padded(hidden, 512))]
    # 4-bit weights, one byte of scale for 32 of them, and an fp32 bias.
    per_expert = sum(
        size_in * size_out // 2 + size_in * size_out // 32 + 4 * size_out for size_in, size_out in matrices
    )
    return per_expert * int(model["num_local_experts"]) * int(model["num_hidden_layers"])


def _padded(size: int, multiple: int) -> int:
    return math.ceil(size / multiple) * multiple
