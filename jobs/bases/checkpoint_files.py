"""Writes the files of a base checkpoint: weights, config, tokenizer and model card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import GenerationConfig, GptOssConfig, PreTrainedTokenizerFast

from tuneyard.checkpoints.layout.gpt_oss import ARCHITECTURE
from tuneyard.checkpoints.layout.portable import make_checkpoint_portable

DATA = Path(__file__).parents[1] / "data"
"""The folder jobs/data."""

Report = Callable[[str], None]
"""Prints one line about the progress of a build."""


def write_base_files(
    folder: Path, weights: dict[str, torch.Tensor], config: GptOssConfig, tokenizer: Tokenizer, card: str
) -> None:
    """Writes a checkpoint that transformers 4.57 and 5.x load; the weights are rounded to bf16.

    Generation ends at `<|return|>` and `<|call|>`; `<|endoftext|>` is the padding token, on the left. `card` is the
    text of README.md. The folder must exist; the caller adds the manifest.
    """
    stops = [tokenizer.token_to_id("<|return|>"), tokenizer.token_to_id("<|call|>")]
    pad = tokenizer.token_to_id("<|endoftext|>")
    config.architectures = [ARCHITECTURE]
    config.dtype = "bfloat16"
    config.eos_token_id, config.pad_token_id, config.bos_token_id = stops, pad, None
    config.save_pretrained(folder)
    GenerationConfig(eos_token_id=stops, pad_token_id=pad).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|return|>", pad_token="<|endoftext|>", padding_side="left"
    ).save_pretrained(folder)
    make_checkpoint_portable(folder)
    write_weights(folder, weights)
    (folder / "README.md").write_text(card, encoding="utf-8")


def write_weights(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """Writes model.safetensors, with the weights rounded to bf16."""
    rounded = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in weights.items()}
    save_file(rounded, folder / "model.safetensors", metadata={"format": "pt"})
