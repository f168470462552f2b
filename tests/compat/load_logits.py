"""Runs in .venv-compat: writes the logits of a checkpoint, and of OpenAI's reference model, into a .npz file.

python load_logits.py OUTPUT CHECKPOINT [ORIGINAL]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

TOKENS = torch.randint(9, 1024, (1, 96), generator=torch.Generator().manual_seed(0))
"""One prompt as long as six attention windows of tiny-oss-random."""


def hugging_face_logits(folder: Path) -> np.ndarray:
    """fp32 logits [tokens, vocabulary] by transformers, with dequantised MXFP4 experts."""
    quantised = '"quantization_config"' in (folder / "config.json").read_text(encoding="utf-8")
    options: dict[str, Any] = {"quantization_config": transformers.Mxfp4Config(dequantize=True)} if quantised else {}
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", **options)
    with torch.inference_mode():
        logits: np.ndarray = model.float().eval()(TOKENS).logits[0].numpy()
    return logits


def reference_logits(folder: Path) -> np.ndarray:
    """fp32 logits [tokens, vocabulary] by OpenAI's reference implementation."""
    from gpt_oss.torch.model import Transformer

    model: Any = Transformer.from_checkpoint(str(folder), device="cpu")
    with torch.inference_mode():
        logits: np.ndarray = model.float()(TOKENS[0]).float().numpy()
    return logits


def main() -> None:
    """Writes `version`, `logits`, `ids` (the token ids of a text), and `reference` if ORIGINAL is given."""
    output, checkpoint, *original = map(Path, sys.argv[1:])
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    results: dict[str, Any] = {
        "version": transformers.__version__,
        "logits": hugging_face_logits(checkpoint),
        "ids": tokenizer("Grüße, <|start|> 42!")["input_ids"],
    }
    if original:
        results["reference"] = reference_logits(original[0])
    np.savez(output, **results)


if __name__ == "__main__":
    main()
