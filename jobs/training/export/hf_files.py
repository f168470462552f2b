"""Writes a trained model as Hugging Face files with the dtypes, config and tokenizer of its base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from tuneyard.checkpoints.layout.export_form import CONFIG_DTYPES, exported_dtypes, write_base_configuration

MAX_SHARD_SIZE = "5GB"


def save_like_base(model: Any, base: Path, target: Path) -> None:
    """Writes the unquantised transformers `model` to the existing folder `target`, in the form of its base.

    Each parameter of `model` is changed in place to the dtype that `base` stores it in. Raises CheckpointError if the
    base's files are missing or broken.
    """
    dtypes = exported_dtypes(base)
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(getattr(torch, CONFIG_DTYPES[dtypes[name]]))
    # transformers refuses to write what it considers an unusual generation config. The base's own replaces it.
    model.generation_config = transformers.GenerationConfig()
    model.save_pretrained(target, max_shard_size=MAX_SHARD_SIZE)
    (target / "generation_config.json").unlink(missing_ok=True)
    write_base_configuration(base, target)
