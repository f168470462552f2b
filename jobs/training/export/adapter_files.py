"""Writes LoRA adapters as PEFT's files: adapter_config.json and adapter_model.safetensors."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import peft
import torch
from safetensors.torch import save_file

from tuneyard.checkpoints.layout.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from tuneyard.checkpoints.layout.json_files import read_json, write_json


def write_adapter(config: peft.LoraConfig, tensors: Mapping[str, torch.Tensor], target: Path) -> None:
    """Writes an adapter to the existing folder `target`. `tensors` have PEFT's names, such as ….q_proj.lora_A.weight.

    Modules may share a tensor: each gets a copy.
    """
    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    save_file(copies, target / ADAPTER_WEIGHTS, {"format": "pt"})
    config.inference_mode = True
    config.save_pretrained(target)


def copy_adapter(checkpoint: Path, target: Path) -> None:
    """Copies the adapter in a checkpoint of transformers' Trainer to the existing folder `target`, byte for byte."""
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        shutil.copyfile(checkpoint / name, target / name)


def name_base(adapter: Path, base: str) -> None:
    """Writes `base`, a folder or a URI, into adapter_config.json as the model that the adapter changes.

    Equal adapters have equal bytes afterwards: PEFT writes the names of modules in the order of a set.
    """
    config = read_json(adapter / ADAPTER_CONFIG)
    if isinstance(config.get("target_modules"), list):
        config["target_modules"].sort()
    write_json(adapter / ADAPTER_CONFIG, config | {"base_model_name_or_path": base})
