"""MXFP4 (OCP MX 1.0) as GPT-OSS is published in: experts rounded to it, and a Hugging Face checkpoint of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

FP4 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0])


def to_mxfp4(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """fp32 [..., columns] to blocks [..., columns / 32, 16] and scales [..., columns / 32], both uint8 (OCP MX 1.0)."""
    grouped = matrix.reshape(*matrix.shape[:-1], -1, 32)
    exponent = torch.floor(torch.log2(grouped.abs().amax(-1).clamp_min(2.0**-120))) - 2
    nearest = (grouped / torch.exp2(exponent)[..., None])[..., None].sub(FP4).abs().argmin(-1).to(torch.uint8)
    return (nearest[..., 0::2] | (nearest[..., 1::2] << 4)).contiguous(), (exponent + 127).to(torch.uint8)


def from_mxfp4(blocks: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """The inverse, fp32."""
    values = torch.stack([FP4[(blocks & 15).long()], FP4[(blocks >> 4).long()]], -1).flatten(-2)
    return (values * torch.exp2(scales.float() - 127)[..., None]).flatten(-2)


def write_mxfp4(base: Path, target: Path) -> None:
    """The Hugging Face checkpoint `base` with expert matrices as `_blocks` and `_scales`, as OpenAI publishes it."""
    target.mkdir()
    for path in base.glob("*token*.json"):
        shutil.copy(path, target)
    tensors = {}
    for name, tensor in load_file(base / "model.safetensors").items():
        if name.endswith(("gate_up_proj", "down_proj")):
            blocks, scales = to_mxfp4(tensor.transpose(1, 2).float())  # [expert, in, out] to [expert, out, in]
            tensors |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        else:
            tensors[name] = tensor
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {
        "quant_method": "mxfp4",
        "modules_to_not_convert": [
            "model.layers.*.self_attn",
            "model.layers.*.mlp.router",
            "model.embed_tokens",
            "lm_head",
        ],
    }
    (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
