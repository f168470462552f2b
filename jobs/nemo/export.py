"""Exports a trained NeMo checkpoint to Hugging Face files, with LoRA adapters merged in fp32 or as PEFT's files."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from megatron.core.transformer.transformer_layer import TransformerLayer
from nemo.collections.llm.gpt.model.base import HAVE_TE
from nemo.collections.llm.peft.lora import LoRA, LoRALinear, LoRAMerge
from nemo.lightning.io import load_context
from nemo.lightning.io.pl import ckpt_to_weights_subdir

import jobs.nemo.setup.patched
from jobs.nemo.connectors.hf_exporter import HFExporter
from jobs.nemo.connectors.lora_adapters import peft_adapter
from jobs.nemo.layer_offload import layers_on_device, offloadable_modules
from jobs.nemo.setup.exact_arithmetic import disable_tf32
from jobs.training.export.adapter_files import write_adapter
from jobs.training.export.hf_files import save_like_base
from jobs.training.logit_proof import check_merge
from tuneyard.checkpoints.safety.written_folders import check_written_folder
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.training_data.token_table import IGNORED_LABEL


def export_hf(
    config: FinetuneConfig, checkpoint: Path, base: Path, target: Path, probe_rows: list[dict[str, list[int]]]
) -> list[np.ndarray]:
    """See TrainingBackend.export_hf. `checkpoint` and `base` are folders in NeMo 2 format.

    Raises CheckpointError if this platform did not write them, or if they have changed since.
    """
    disable_tf32()
    check_written_folder(checkpoint)
    if config.training.method == "lora":
        check_written_folder(base)
        model = load_with_adapters(checkpoint, base)
        trained = label_logits(model, probe_rows)
        LoRAMerge()(model)
        _remove_adapters(model)
        check_merge(trained, label_logits(model, probe_rows))
    else:
        model = _load_in_fp32(checkpoint)
        trained = label_logits(model, probe_rows)
    exporter = HFExporter(str(checkpoint))
    with transformers.modeling_utils.no_init_weights():
        exported = transformers.GptOssForCausalLM(exporter.config).to(torch.float32)
    exported = exporter.convert_state(model, exported)
    save_like_base(exported, config.model.folder, target)
    return trained


def export_adapter(
    checkpoint: Path, base: Path, target: Path, probe_rows: list[dict[str, list[int]]]
) -> list[np.ndarray]:
    """See TrainingBackend.export_adapter. `checkpoint` and `base` are folders in NeMo 2 format.

    Raises CheckpointError if this platform did not write them, if they have changed since, or if the adapters are not
    LoRA on attention.
    """
    disable_tf32()
    check_written_folder(checkpoint)
    check_written_folder(base)
    model = load_with_adapters(checkpoint, base)
    write_adapter(*peft_adapter(model), target)
    return label_logits(model, probe_rows)


def load_with_adapters(checkpoint: Path, base: Path) -> Any:
    """The base model with the LoRA adapters of `checkpoint`, in fp32."""
    lora: LoRA = load_context(checkpoint, "model.model_transform")
    model, trainer = HFExporter(str(base)).nemo_load(base)
    model.trainer = trainer
    lora(model)
    model.float()
    weights = ckpt_to_weights_subdir(checkpoint, is_saving=False)
    strategy = trainer.strategy
    metadata = strategy.unwrapped_checkpoint_io.load_content_metadata(weights)
    adapters = {
        name: value
        for name, value in strategy.megatron_parallel.sharded_state_dict(metadata=metadata).items()
        if ".adapter." in name
    }
    strategy.load_model_state_dict(
        strategy.checkpoint_io.load_checkpoint(weights, sharded_state_dict=adapters), strict=False
    )
    return model.eval()


def label_logits(model: Any, rows: list[dict[str, list[int]]]) -> list[np.ndarray]:
    """fp32 logits [positions, vocabulary] per row of the token table, at the positions that predict labelled tokens.

    The model stays in CPU memory. TransformerEngine's layers run only on GPUs, so each one is copied to the GPU for its
    forward pass: 20B and 120B in fp32 do not fit on one GPU. Megatron's own layers run on the CPU.
    """
    result = []
    offload: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if HAVE_TE:
        offload = layers_on_device(offloadable_modules(model, TransformerLayer), torch.Tensor.cuda)
    # Not inference_mode: Megatron caches the masks that it creates, and later training could not use inference tensors.
    with torch.no_grad(), offload:
        for row in rows:
            tokens = torch.tensor([row["input_ids"]], device="cuda" if HAVE_TE else "cpu")
            positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
            logits = model(tokens, positions, attention_mask=None)[0].float()
            predicting = [index - 1 for index, label in enumerate(row["labels"]) if label != IGNORED_LABEL and index]
            result.append(logits[predicting].cpu().numpy())
    return result


def _load_in_fp32(checkpoint: Path) -> Any:
    model, _ = HFExporter(str(checkpoint)).nemo_load(checkpoint)
    return model.float().eval()


def _remove_adapters(model: Any) -> None:
    """Replaces each adapted linear layer by the plain layer that it wraps, which keeps its current weights."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoRALinear):
                setattr(parent, name, child.to_wrap)
