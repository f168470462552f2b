"""Imports checkpoints in OpenAI's original format, with MXFP4 experts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nemo.collections.llm.gpt.model import gpt_oss
from nemo.lightning import io
from nemo.lightning.io.state import TransformFns

import jobs.nemo.setup.patched
from jobs.checkpoints.openai_layout import SAME_FIELDS
from jobs.nemo.connectors.expert_tensors import ExpertTensorNames, expert_import_transforms
from jobs.nemo.connectors.source_importer import SourceImporter
from jobs.nemo.connectors.tensor_names import NemoTensorNames

OPENAI_EXPERT_TENSORS = ExpertTensorNames(
    gate_up_weight="**.mlp.mlp1_weight",
    gate_up_bias="**.mlp.mlp1_bias",
    down_weight="**.mlp.mlp2_weight",
    down_bias="**.mlp.mlp2_bias",
)


class OpenAIImporter(SourceImporter, gpt_oss.OpenAIGPTOSSImporter):
    """Importer for `openai://FOLDER`: the files that OpenAI publishes in the folder `original`."""

    def source_config(self) -> dict[str, Any]:
        original = json.loads((Path(str(self)) / "config.json").read_text(encoding="utf-8"))
        length = int(original["initial_context_length"] * original["rope_scaling_factor"])
        return {
            **{name: original[name] for name in SAME_FIELDS},
            "num_local_experts": original["num_experts"],
            "num_experts_per_tok": original["experts_per_token"],
            "max_position_embeddings": length,
            "rope_theta": original["rope_theta"],
            "rope_scaling": {
                "factor": original["rope_scaling_factor"],
                "original_max_position_embeddings": original["initial_context_length"],
                "beta_fast": original.get("rope_ntk_beta", 32.0),
                "beta_slow": original.get("rope_ntk_alpha", 1.0),
                "truncate": False,
            },
        }

    def convert_state(self, source: Any, target: Any) -> Any:
        """Renames and reshapes all tensors of `source` into the NeMo model `target`, and returns it."""
        names = NemoTensorNames.from_model(target)
        transforms = [
            io.state_transform(f"**.attn.qkv.{kind}", f"**.self_attention.linear_qkv.{kind}", merge)
            for kind, merge in (
                ("weight", TransformFns.merge_qkv_concat),
                ("bias", TransformFns.merge_qkv_bias_concat),
            )
        ]
        # Dequantised MXFP4 weights are [expert, out, in], as NeMo has them.
        transforms += expert_import_transforms(OPENAI_EXPERT_TENSORS, names, lambda weights: weights)
        return io.apply_transforms(
            source, target, mapping=_openai_to_nemo_names(names), transforms=transforms, cast_dtype=self.dtype
        )


def _openai_to_nemo_names(names: NemoTensorNames) -> dict[str, str]:
    """NeMo's name for each OpenAI tensor that is renamed only."""
    return {
        "embedding.weight": "embedding.word_embeddings.weight",
        "norm.scale": "decoder.final_layernorm.weight",
        "unembedding.weight": "output_layer.weight",
        "**.attn.norm.scale": names.input_norm,
        "**.attn.out.weight": "**.self_attention.linear_proj.weight",
        "**.attn.out.bias": "**.self_attention.linear_proj.bias",
        "**.attn.sinks": "**.self_attention.core_attention.softmax_offset",
        "**.mlp.norm.scale": "**.pre_mlp_layernorm.weight",
        "**.mlp.gate.weight": "**.mlp.router.weight",
        "**.mlp.gate.bias": "**.mlp.router.bias",
    }
