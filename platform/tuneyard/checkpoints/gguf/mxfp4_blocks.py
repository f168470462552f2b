"""MXFP4 blocks in the byte order of openai/gpt-oss and in that of GGUF. No value changes, only the order of the bits.

A block is 32 four-bit codes and a scale (E8M0). OpenAI's byte i holds the codes 2i (low half) and 2i + 1, and the
scales are a tensor of their own. GGUF's byte i holds the codes i (low half) and i + 16, and the scale is the byte
before them (ggml-quants.c, quantize_row_mxfp4_ref).
"""

from __future__ import annotations

import numpy as np

HALF = 16
"""Bytes of a block without its scale, and codes that lie in the low halves."""


def to_gguf(blocks: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """GGUF's bytes [..., blocks · 17] of OpenAI's blocks [..., blocks, 16] and scales [..., blocks], all uint8."""
    codes = np.stack((blocks & 15, blocks >> 4), -1).reshape(*blocks.shape[:-1], 2 * HALF)
    packed = codes[..., :HALF] | (codes[..., HALF:] << 4)
    both = np.concatenate((scales[..., None], packed), -1)
    result: np.ndarray = both.reshape(*scales.shape[:-1], -1)
    return result
