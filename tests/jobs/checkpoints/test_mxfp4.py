"""MXFP4 arithmetic against a search over all levels, and against transformers' own decoder."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from jobs.checkpoints.mxfp4 import BLOCK, LEVELS, dequantise, quantise
from tuneyard.core.errors import CheckpointError

numbers = st.floats(-1e6, 1e6, width=32) | st.floats(-6, 6, width=32) | st.just(0.0)
blocks_of_numbers = st.lists(numbers, min_size=BLOCK, max_size=BLOCK)


def best_error(block: torch.Tensor) -> float:
    """The smallest squared error over all scales, trying every level for every value."""
    block = block.double()
    errors = []
    for exponent in range(-140, 25):
        levels = torch.cat((LEVELS, -LEVELS)).double() * 2.0**exponent
        errors.append(float((block[:, None] - levels).abs().amin(-1).square().sum()))
    return min(errors)


@given(blocks_of_numbers)
def test_no_other_scale_or_rounding_is_better(values: list[float]) -> None:
    block = torch.tensor(values)
    found = dequantise(*quantise(block)).double()
    error = float((found - block.double()).square().sum())
    # What is smaller than 2^-127 of everything else is nothing.
    assert error <= best_error(block) * (1 + 1e-6) + 2.0**-240


@given(blocks_of_numbers)
def test_what_mxfp4_can_hold_comes_back_unchanged(values: list[float]) -> None:
    held = dequantise(*quantise(torch.tensor(values)))
    assert torch.equal(dequantise(*quantise(held)), held)
    assert torch.equal(dequantise(*quantise(held.bfloat16())), held)


@given(st.binary(min_size=16, max_size=16), st.integers(0, 254))
def test_every_code_is_read_as_transformers_reads_it(codes: bytes, scale: int) -> None:
    blocks = torch.frombuffer(bytearray(codes), dtype=torch.uint8).reshape(1, 1, 1, 16)
    scales = torch.tensor([[[scale]]], dtype=torch.uint8)
    theirs = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    assert torch.equal(dequantise(blocks, scales), theirs.transpose(1, 2))


def test_a_lone_large_value_is_cut_where_that_costs_less() -> None:
    block = torch.tensor([4.0] + [0.25] * 31)
    assert dequantise(*quantise(block)).tolist() == [3.0] + [0.25] * 31


def test_halves_go_to_the_even_code() -> None:
    ties = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, -5.0] + [6.0, 4.0] * 12)
    assert dequantise(*quantise(ties))[:8].tolist() == [0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, -4.0]


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_what_it_cannot_hold_is_refused(broken: float) -> None:
    with pytest.raises(CheckpointError, match="NaN or infinity"):
        quantise(torch.tensor([broken] + [1.0] * 31))


def test_rows_that_are_no_whole_blocks_are_refused() -> None:
    with pytest.raises(CheckpointError, match="multiple of 32 values, found 33"):
        quantise(torch.ones(2, 33))
