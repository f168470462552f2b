"""A checkpoint of the shapes of openai/gpt-oss-20b in its published form, with random weights and fewer layers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jobs.bases.o200k_tokenizer import build_o200k_tokenizer
from jobs.bases.published_form import write_published_form
from tuneyard.checkpoints.layout.gpt_oss import expected_mxfp4_tensors

PUBLISHED = Path(__file__).parent / "gpu/gpt_oss_20b_config.json"
"""config.json of openai/gpt-oss-20b, as it is published."""

SCALES = (117, 118, 119)
"""E8M0 exponents around 2^-9: with FP4 values around 2, weights have about 1/sqrt(2880) as their spread."""

PIECE_VALUES = 2**23
"""Random values that are drawn once per tensor; a longer tensor repeats them."""


def published_20b_config(layers: int) -> dict[str, Any]:
    """20B's config.json with its first layers only."""
    config = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    return config | {"num_hidden_layers": layers, "layer_types": config["layer_types"][:layers]}


def write_published_20b(folder: Path, layers: int) -> None:
    """Writes the checkpoint to the new folder, as `hf download` leaves it. Needs the memory of one piece.

    Two layers take 3.2 GB: 1.2 GB each of embeddings and output matrix, 0.4 GB for each layer.
    """
    config = published_20b_config(layers)
    folder.mkdir()
    write_published_form(folder, config, build_o200k_tokenizer())
    write_weights(folder / "model.safetensors", config)


def write_weights(path: Path, config: Mapping[str, Any]) -> None:
    """Writes random weights of the published form for a config.json of any size: MXFP4 experts, all else BF16."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    tensors = expected_mxfp4_tensors(config)
    for name, shape in tensors.items():
        is_bytes = name.endswith(("_blocks", "_scales"))
        end = offset + math.prod(shape) * (1 if is_bytes else 2)
        header[name] = {"dtype": "U8" if is_bytes else "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in tensors.items():
            count = math.prod(shape)
            piece = _random_values(generator, name, shape, min(count, PIECE_VALUES))
            while count > 0:
                count -= file.write(piece[:count].data) // piece.itemsize


def _random_values(generator: np.random.Generator, name: str, shape: tuple[int, ...], count: int) -> np.ndarray:
    """Values as they are stored: bytes of MXFP4, or the bits of BF16."""
    if name.endswith("_blocks"):
        return generator.integers(0, 256, count, dtype=np.uint8)
    if name.endswith("_scales"):
        return generator.choice(np.array(SCALES, np.uint8), count)
    spread = 1.0 if "embed_tokens" in name else 0.1 if len(shape) == 1 else 1 / math.sqrt(shape[-1])
    values = generator.normal(1.0 if name.endswith("norm.weight") else 0.0, spread, count)
    bits: np.ndarray = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return bits
