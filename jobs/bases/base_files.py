"""The files of a base checkpoint that Tuneyard builds itself, the same for every base."""

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

Report = Callable[[str], None]
"""Takes a line for the person who waits."""


def write_base_files(
    folder: Path, weights: dict[str, torch.Tensor], config: GptOssConfig, tokenizer: Tokenizer, card: str
) -> None:
    """Weights (rounded to bf16), config, tokenizer and model card, loadable by transformers 4.57 and 5.x.

    `<|return|>` and `<|call|>` end a generation, `<|endoftext|>` pads on the left.
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
    rounded = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in weights.items()}
    save_file(rounded, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "README.md").write_text(card, encoding="utf-8")
