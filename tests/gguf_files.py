"""Reads a GGUF file back as the tensors of a checkpoint, with the gguf package's reader and the table of names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, dequantize

from tuneyard.checkpoints.gguf.mxfp4_blocks import HALF
from tuneyard.checkpoints.gguf.names import FIRST_OF_PAIR, gguf_names


def read_fields(path: Path) -> dict[str, Any]:
    """The file's keys and values."""
    return {name: field.contents() for name, field in GGUFReader(path).fields.items()}


def read_bytes(path: Path) -> dict[str, tuple[str, np.ndarray]]:
    """GGUF dtype and stored bytes of each tensor, by llama.cpp's name."""
    return {tensor.name: (tensor.tensor_type.name, np.array(tensor.data)) for tensor in GGUFReader(path).tensors}


def read_as_checkpoint(path: Path, layers: int) -> dict[str, np.ndarray]:
    """fp32 values under transformers' names, arranged as transformers does."""
    stored = {t.name: dequantize(t.data, t.tensor_type) for t in GGUFReader(path).tensors}
    names = gguf_names(layers)
    assert stored.keys() == names.keys()
    tensors: dict[str, np.ndarray] = {}
    for name, source in names.items():
        values = stored[name]
        first = FIRST_OF_PAIR.get(name.split(".")[-2])
        if first is not None:
            pair = tensors.setdefault(source, np.zeros((values.shape[0], 2 * values.shape[1], *values.shape[2:])))
            pair[:, first::2] = values
        else:
            tensors[source] = values
    return {name: values.swapaxes(1, 2) if values.ndim == 3 else values for name, values in tensors.items()}


def mxfp4_blocks(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """OpenAI's blocks [..., blocks, 16] and scales [..., blocks] of GGUF's MXFP4 bytes [..., blocks · 17]."""
    both = data.reshape(*data.shape[:-1], -1, HALF + 1)
    packed = both[..., 1:]
    codes = np.concatenate((packed & 15, packed >> 4), -1)
    return codes[..., 0::2] | (codes[..., 1::2] << 4), both[..., 0].copy()
