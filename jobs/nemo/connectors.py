"""GPT-OSS between Hugging Face, OpenAI's original format and NeMo 2: any size, with or without TransformerEngine.

NeMo's own connectors know the two published sizes and TransformerEngine's layer names only; the classes here keep
their loading and saving (nemo/collections/llm/gpt/model/gpt_oss.py, 2.7.3) and replace the rest. `register` puts
them behind `llm.import_ckpt` and `llm.export_ckpt`. Which defect each override mends: jobs/nemo/fixes.py.
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from nemo.collections.common.tokenizers.huggingface.auto_tokenizer import AutoTokenizer
from nemo.collections.llm import GPTOSSConfig, GPTOSSModel
from nemo.collections.llm.gpt.model import gpt_oss
from nemo.collections.llm.gpt.model.base import HAVE_TE, local_layer_spec
from nemo.lightning import io
from nemo.lightning.io.state import TransformFns

from jobs.checkpoints.openai_layout import SAME_FIELDS
from tuneyard.core.errors import CheckpointError


def forward_without_mask(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """A forward step whose masks Megatron makes itself: causal, and the window's. NeMo's own insists on a mask."""
    result: torch.Tensor = model(
        input_ids=batch["tokens"], position_ids=batch["position_ids"], labels=batch["labels"], attention_mask=None
    )
    return result


WITHOUT_TRANSFORMER_ENGINE: dict[str, Any] = {
    "transformer_layer_spec": local_layer_spec,
    "forward_step_fn": forward_without_mask,
    "moe_grouped_gemm": False,
    "moe_permute_fusion": False,
    "masked_softmax_fusion": False,
    "gradient_accumulation_fusion": False,
    "bias_dropout_fusion": False,
    "apply_rope_fusion": False,
    "cross_entropy_loss_fusion": False,
}
"""Megatron's own layers, for where TransformerEngine's kernels are not installed."""


def model_config(source: dict[str, Any], **overrides: Any) -> GPTOSSConfig:
    """NeMo's config for a Hugging Face config.json."""
    return GPTOSSConfig(**model_fields(source) | overrides)


def model_fields(source: dict[str, Any]) -> dict[str, Any]:
    """GPTOSSConfig's fields for a Hugging Face config.json: every size from the source, none from the recipe."""
    rope = source.get("rope_scaling") or source["rope_parameters"]
    theta = source.get("rope_theta") or source["rope_parameters"]["rope_theta"]
    fields: dict[str, Any] = {
        "num_layers": source["num_hidden_layers"],
        "num_moe_experts": source["num_local_experts"],
        "moe_router_topk": source["num_experts_per_tok"],
        "hidden_size": source["hidden_size"],
        "ffn_hidden_size": source["intermediate_size"],
        "moe_ffn_hidden_size": source["intermediate_size"],
        "num_attention_heads": source["num_attention_heads"],
        "num_query_groups": source["num_key_value_heads"],
        "kv_channels": source["head_dim"],
        "vocab_size": source["vocab_size"],
        "make_vocab_size_divisible_by": 1,
        "seq_length": source["max_position_embeddings"],
        "layernorm_epsilon": source.get("rms_norm_eps", 1e-5),
        "rotary_base": int(theta),
        "yarn_rotary_scaling_factor": float(rope["factor"]),
        "yarn_original_max_position_embeddings": rope["original_max_position_embeddings"],
        "yarn_beta_fast": float(rope["beta_fast"]),
        "yarn_beta_slow": float(rope["beta_slow"]),
        "yarn_correction_range_round_to_int": bool(rope.get("truncate", False)),
        # As transformers and OpenAI's reference have them: 2.7.3 says (128, 0), a window of 129, and 1.0,
        # which takes YaRN's attention factor back out.
        "window_size": (source["sliding_window"] - 1, 0),
        "yarn_mscale": 1.0,
        "yarn_mscale_all_dim": 0.0,
    }
    return fields | ({} if HAVE_TE else WITHOUT_TRANSFORMER_ENGINE)


class _AnySource:
    """What both importers share: the sizes and the dtype of the source, and a tokenizer folder of their own."""

    def source_config(self) -> dict[str, Any]:
        raise NotImplementedError

    @cached_property
    def dtype(self) -> torch.dtype:
        """fp32 stays fp32, everything else becomes bf16."""
        config = self.source_config()
        is_fp32 = (config.get("dtype") or config.get("torch_dtype")) == "float32"
        return torch.float32 if is_fp32 else torch.bfloat16

    @cached_property
    def config(self) -> GPTOSSConfig:
        return model_config(self.source_config(), bf16=self.dtype == torch.bfloat16, params_dtype=self.dtype)

    @cached_property
    def tokenizer(self) -> AutoTokenizer:
        # NeMo copies the tokenizer's whole folder into the checkpoint: it must not be the one of the weights.
        source = Path(str(self))
        if not (source / "tokenizer.json").is_file():
            raise CheckpointError(f"{self}: holds no tokenizer.json. Copy it there from the model's Hugging Face form.")
        folder = Path(tempfile.mkdtemp(prefix="tuneyard-tokenizer-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        for path in source.glob("*token*.json"):
            shutil.copy(path, folder)
        return AutoTokenizer(str(folder), trust_remote_code=False)


class HFImporter(_AnySource, gpt_oss.HFGPTOSSImporter):
    """`hf://` folders: BF16 or MXFP4 experts."""

    def source_config(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((Path(str(self)) / "config.json").read_text(encoding="utf-8"))
        return found

    def convert_state(self, source: Any, target: Any) -> Any:
        """Renames and reshapes all weights of `source` into `target`."""
        is_quantised = "quantization_config" in self.source_config()
        # BF16 experts are [expert, in, out]; dequantised MXFP4 ones, like NeMo's, [expert, out, in].
        turned = (lambda w: w) if is_quantised else (lambda w: w.transpose(-1, -2).contiguous())
        names = _target_names(target)
        mapping = _hf_to_nemo(names)
        transforms = [
            io.state_transform(
                source_key=tuple(f"**.self_attn.{name}_proj.{kind}" for name in "qkv"),
                target_key=f"**.self_attention.linear_qkv.{kind}",
                fn=merge,
            )
            for kind, merge in (("weight", TransformFns.merge_qkv), ("bias", TransformFns.merge_qkv_bias))
        ]
        transforms += _expert_imports("**.mlp.experts.gate_up_proj{}", "**.mlp.experts.down_proj{}", names, turned)
        return io.apply_transforms(source, target, mapping=mapping, transforms=transforms, cast_dtype=self.dtype)


class OpenAIImporter(_AnySource, gpt_oss.OpenAIGPTOSSImporter):
    """`openai://` folders: the original weights as OpenAI publishes them, MXFP4 experts."""

    def source_config(self) -> dict[str, Any]:
        """OpenAI's config.json in Hugging Face's words."""
        found = json.loads((Path(str(self)) / "config.json").read_text(encoding="utf-8"))
        length = int(found["initial_context_length"] * found["rope_scaling_factor"])
        return {
            **{name: found[name] for name in SAME_FIELDS},
            "num_local_experts": found["num_experts"],
            "num_experts_per_tok": found["experts_per_token"],
            "max_position_embeddings": length,
            "rope_theta": found["rope_theta"],
            "rope_scaling": {
                "factor": found["rope_scaling_factor"],
                "original_max_position_embeddings": found["initial_context_length"],
                "beta_fast": found.get("rope_ntk_beta", 32.0),
                "beta_slow": found.get("rope_ntk_alpha", 1.0),
                "truncate": False,
            },
        }

    def convert_state(self, source: Any, target: Any) -> Any:
        """Renames and reshapes all weights of `source` into `target`."""
        names = _target_names(target)
        mapping = {
            "embedding.weight": "embedding.word_embeddings.weight",
            "norm.scale": "decoder.final_layernorm.weight",
            "unembedding.weight": "output_layer.weight",
            "**.attn.norm.scale": f"**.{names['input_norm']}",
            "**.attn.out.weight": "**.self_attention.linear_proj.weight",
            "**.attn.out.bias": "**.self_attention.linear_proj.bias",
            "**.attn.sinks": "**.self_attention.core_attention.softmax_offset",
            "**.mlp.norm.scale": "**.pre_mlp_layernorm.weight",
            "**.mlp.gate.weight": "**.mlp.router.weight",
            "**.mlp.gate.bias": "**.mlp.router.bias",
        }
        transforms = [
            io.state_transform(f"**.attn.qkv.{kind}", f"**.self_attention.linear_qkv.{kind}", merge)
            for kind, merge in (
                ("weight", TransformFns.merge_qkv_concat),
                ("bias", TransformFns.merge_qkv_bias_concat),
            )
        ]
        transforms += _expert_imports("**.mlp.mlp1{}", "**.mlp.mlp2{}", names, lambda w: w, weight="_weight")
        return io.apply_transforms(source, target, mapping=mapping, transforms=transforms, cast_dtype=self.dtype)


class HFExporter(gpt_oss.HFGPTOSSExporter):
    """NeMo 2 folders back to Hugging Face: BF16 experts, sizes of the model."""

    trust_remote_code = False

    @cached_property
    def config(self) -> Any:
        from transformers import GptOssConfig

        source: GPTOSSConfig = io.load_context(str(self), subpath="model.config")
        return GptOssConfig(
            num_hidden_layers=source.num_layers,
            num_local_experts=source.num_moe_experts,
            num_experts_per_tok=source.moe_router_topk,
            hidden_size=source.hidden_size,
            intermediate_size=source.moe_ffn_hidden_size,
            num_attention_heads=source.num_attention_heads,
            num_key_value_heads=source.num_query_groups,
            head_dim=source.kv_channels,
            vocab_size=source.vocab_size,
            sliding_window=source.window_size[0] + 1,
            max_position_embeddings=source.seq_length,
            rms_norm_eps=source.layernorm_epsilon,
            rope_theta=float(source.rotary_base),
            rope_scaling={
                "rope_type": "yarn",
                "factor": source.yarn_rotary_scaling_factor,
                "beta_fast": source.yarn_beta_fast,
                "beta_slow": source.yarn_beta_slow,
                "truncate": source.yarn_correction_range_round_to_int,
                "original_max_position_embeddings": source.yarn_original_max_position_embeddings,
            },
        )

    def convert_state(self, source: Any, target: Any) -> Any:
        """Renames and reshapes all weights of `source` into `target`."""
        names = _target_names(source)
        mapping = {nemo: hf for hf, nemo in _hf_to_nemo(names).items()}
        transforms = [
            io.state_transform(
                source_key=f"**.self_attention.linear_qkv.{kind}",
                target_key=tuple(f"**.self_attn.{name}_proj.{kind}" for name in "qkv"),
                fn=split,
            )
            for kind, split in (("weight", TransformFns.split_qkv), ("bias", TransformFns.split_qkv_bias))
        ]
        for layer, name, undo in (
            ("linear_fc1", "gate_up_proj", gpt_oss._uninterleave),
            ("linear_fc2", "down_proj", _same),
        ):
            stack = _stacked(undo)
            transforms.append(
                io.state_transform(f"**.{names['expert'](layer, 'weight')}", f"**.mlp.experts.{name}", stack)
            )
            transforms.append(
                io.state_transform(f"**.{names['expert'](layer, 'bias')}", f"**.mlp.experts.{name}_bias", stack)
            )
        dtype = next(iter(target.state_dict().values())).dtype
        return io.apply_transforms(source, target, mapping=mapping, transforms=transforms, cast_dtype=dtype)


IMPORTERS = {"hf": HFImporter, "openai": OpenAIImporter}


def register() -> None:
    """Puts these connectors behind llm.import_ckpt and llm.export_ckpt."""
    for scheme, importer in IMPORTERS.items():
        io.model_importer(GPTOSSModel, scheme)(importer)
    io.model_exporter(GPTOSSModel, "hf")(HFExporter)


def _hf_to_nemo(names: dict[str, Any]) -> dict[str, str]:
    """Tensors that only change their name, read from left to right by the importer and back by the exporter."""
    return {
        "model.embed_tokens.weight": "embedding.word_embeddings.weight",
        "model.norm.weight": "decoder.final_layernorm.weight",
        "lm_head.weight": "output_layer.weight",
        "**.input_layernorm.weight": f"**.{names['input_norm']}",
        "**.self_attn.o_proj.weight": "**.self_attention.linear_proj.weight",
        "**.self_attn.o_proj.bias": "**.self_attention.linear_proj.bias",
        "**.self_attn.sinks": "**.self_attention.core_attention.softmax_offset",
        "**.post_attention_layernorm.weight": "**.pre_mlp_layernorm.weight",
        "**.mlp.router.weight": "**.mlp.router.weight",
        "**.mlp.router.bias": "**.mlp.router.bias",
    }


def _target_names(model: Any) -> dict[str, Any]:
    """NeMo's names of what TransformerEngine fuses and Megatron's own layers do not."""
    keys = list(model.module.state_dict() if hasattr(model, "module") else model.state_dict())
    fused = any(key.endswith("self_attention.linear_qkv.layer_norm_weight") for key in keys)
    local = any(".experts.local_experts." in key for key in keys)
    return {
        "input_norm": "self_attention.linear_qkv.layer_norm_weight" if fused else "input_layernorm.weight",
        "expert": (lambda layer, kind: f"mlp.experts.local_experts.*.{layer}.{kind}")
        if local
        else (lambda layer, kind: f"mlp.experts.{layer}.{kind}*"),
    }


def _expert_imports(first: str, second: str, names: dict[str, Any], turned: Any, weight: str = "") -> list[Any]:
    """Transforms of one tensor of all experts to one per expert; the first layer's gate and up rows are parted."""
    return [
        io.state_transform(
            first.format(weight),
            f"**.{names['expert']('linear_fc1', 'weight')}",
            lambda w: [gpt_oss._interleave(expert) for expert in turned(w)],
        ),
        io.state_transform(
            first.format("_bias"),
            f"**.{names['expert']('linear_fc1', 'bias')}",
            lambda b: [gpt_oss._interleave(expert) for expert in b],
        ),
        io.state_transform(
            second.format(weight), f"**.{names['expert']('linear_fc2', 'weight')}", lambda w: [*turned(w)]
        ),
        io.state_transform(second.format("_bias"), f"**.{names['expert']('linear_fc2', 'bias')}", lambda b: [*b]),
    ]


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _stacked(undo: Any) -> Any:
    def stack(*experts: torch.Tensor) -> torch.Tensor:
        tensor = torch.stack([undo(expert) for expert in experts])
        return tensor.transpose(-1, -2) if tensor.dim() == 3 else tensor

    return stack
