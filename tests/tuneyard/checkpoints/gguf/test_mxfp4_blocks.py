"""MXFP4 blocks change their byte order and nothing else."""

from __future__ import annotations

import gguf
import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from jobs.checkpoints.mxfp4 import dequantise
from tests.gguf_files import mxfp4_blocks
from tuneyard.checkpoints.gguf.mxfp4_blocks import to_gguf


@st.composite
def blocks_and_scales(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(array_shapes(min_dims=2, max_dims=3, max_side=4))
    # Above 252 the largest values are beyond fp32; no checkpoint has such scales.
    scales = draw(arrays(np.uint8, shape, elements=st.integers(0, 252)))
    return draw(arrays(np.uint8, (*shape, 16))), scales


@given(blocks_and_scales())
def test_the_inverse_gives_the_same_bits(pair: tuple[np.ndarray, np.ndarray]) -> None:
    blocks, scales = mxfp4_blocks(to_gguf(*pair))
    assert np.array_equal(blocks, pair[0])
    assert np.array_equal(scales, pair[1])


@given(blocks_and_scales())
def test_ggufs_values_are_those_of_openais_layout(pair: tuple[np.ndarray, np.ndarray]) -> None:
    found = gguf.dequantize(to_gguf(*pair), gguf.GGMLQuantizationType.MXFP4)
    expected = dequantise(*map(torch.from_numpy, pair)).numpy()
    assert np.array_equal(found, expected)


def test_a_block_in_both_layouts() -> None:
    codes = list(range(16)) + [15 - code for code in range(16)]
    openai = np.array([[codes[2 * i] | codes[2 * i + 1] << 4 for i in range(16)]], dtype=np.uint8)
    found = to_gguf(openai, np.array([130], dtype=np.uint8))
    assert found.tolist() == [130, *(codes[i] | codes[i + 16] << 4 for i in range(16))]
