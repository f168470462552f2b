"""Imports Hugging Face checkpoints, with BF16 or MXFP4 experts."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from nemo.collections.llm.gpt.model import gpt_oss
from nemo.lightning import io
from nemo.lightning.io.state import TransformFns

import jobs.nemo.setup.patched
from jobs.nemo.connectors.expert_tensors import ExpertTensorNames, expert_import_transforms
from jobs.nemo.connectors.source_importer import SourceImporter
from jobs.nemo.connectors.tensor_names import NemoTensorNames, hf_to_nemo_names
from tuneyard.checkpoints.layout.export_form import CONFIG_DTYPES, exported_dtypes

HF_EXPERT_TENSORS = ExpertTensorNames(
    gate_up_weight="**.mlp.experts.gate_up_proj",
    gate_up_bias="**.mlp.experts.gate_up_proj_bias",
    down_weight="**.mlp.experts.down_proj",
    down_bias="**.mlp.experts.down_proj_bias",
)


class HFImporter(SourceImporter, gpt_oss.HFGPTOSSImporter):
    """Importer for `hf://FOLDER`."""

    def source_config(self) -> dict[str, Any]:
        config: dict[str, Any] = json.loads((Path(str(self)) / "config.json").read_text(encoding="utf-8"))
        return config

    @cached_property
    def dtype(self) -> torch.dtype:
        """The dtype of the stored weights: the config.json that OpenAI publishes names none."""
        stored = CONFIG_DTYPES[exported_dtypes(Path(str(self)))["lm_head.weight"]]
        return torch.float32 if stored == "float32" else torch.bfloat16

    def convert_state(self, source: Any, target: Any) -> Any:
        """Renames and reshapes all tensors of `source` into the NeMo model `target`, and returns it."""
        is_mxfp4 = "quantization_config" in self.source_config()
        names = NemoTensorNames.from_model(target)
        transforms = [
            io.state_transform(
                source_key=tuple(f"**.self_attn.{name}_proj.{kind}" for name in "qkv"),
                target_key=f"**.self_attention.linear_qkv.{kind}",
                fn=merge,
            )
            for kind, merge in (("weight", TransformFns.merge_qkv), ("bias", TransformFns.merge_qkv_bias))
        ]
        # Dequantised MXFP4 weights are [expert, out, in], as NeMo has them; BF16 weights are [expert, in, out].
        to_nemo_layout = _unchanged if is_mxfp4 else _swap_in_and_out
        transforms += expert_import_transforms(HF_EXPERT_TENSORS, names, to_nemo_layout)
        return io.apply_transforms(
            source, target, mapping=hf_to_nemo_names(names), transforms=transforms, cast_dtype=self.dtype
        )


def _unchanged(weights: torch.Tensor) -> torch.Tensor:
    return weights


def _swap_in_and_out(weights: torch.Tensor) -> torch.Tensor:
    return weights.transpose(-1, -2).contiguous()
