"""MXFP4 arithmetic: quantises to 4-bit floats (E2M1) in blocks of 32 values that share a power of two (E8M0).

Source: OCP Microscaling Formats (MX) Specification 1.0. The byte layout is that of openai/gpt-oss.
"""

from __future__ import annotations

import torch

from tuneyard.core.errors import CheckpointError

BLOCK = 32
"""Values that share a scale."""

LEVELS = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
"""The magnitudes of E2M1, indexed by bits 0 to 2 of a code; bit 3 is the sign."""

_LARGEST_EXPONENT = 2
"""Exponent of the largest level: 6 = 1.5 · 2²."""

_BIAS = 127
"""A stored scale s stands for 2^(s - 127)."""


def quantise(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantises [..., columns] to blocks [..., columns / 32, 16] and scales [..., columns / 32], both uint8.

    A byte of a block holds two codes, the first in its low half. The specification's scale of a block is
    2^(floor(log2(largest)) - 2), which clips values above 6 times the scale. This function tries that power of two, the
    next larger and the next smaller one, and takes the one with the smallest squared error; no other power of two can
    be better. Values that MXFP4 can represent come back unchanged from `dequantise`.

    Raises CheckpointError for a NaN or an infinity, and for a number of columns that is no multiple of 32.
    """
    if values.shape[-1] % BLOCK:
        raise CheckpointError(f"MXFP4 needs rows of a multiple of {BLOCK} values, found {values.shape[-1]}.")
    grouped = values.float().reshape(*values.shape[:-1], -1, BLOCK)
    largest = grouped.abs().amax(-1)
    if not bool(torch.isfinite(largest).all()):
        raise CheckpointError("MXFP4 cannot hold NaN or infinity, and the weights contain one.")
    _, exponent = torch.frexp(largest.clamp_min(2.0**-120))  # largest = m · 2^exponent with m in [1/2, 1)
    exponent = exponent - 1 - _LARGEST_EXPONENT
    best: tuple[torch.Tensor, ...] | None = None
    for step in (0, 1, -1):
        scale = (exponent + step).clamp(-_BIAS, _BIAS)
        levels = _round_to_levels(torch.ldexp(grouped, -scale[..., None]))
        error = (torch.ldexp(levels, scale[..., None]) - grouped).square().sum(-1)
        if best is None:
            best = (error, levels, scale)
        else:
            is_better = error < best[0]
            best = (
                torch.where(is_better, error, best[0]),
                torch.where(is_better[..., None], levels, best[1]),
                torch.where(is_better, scale, best[2]),
            )
    assert best is not None
    _, levels, scale = best
    codes = _level_index(levels.abs()) | (torch.signbit(levels).to(torch.uint8) << 3)
    return (codes[..., 0::2] | (codes[..., 1::2] << 4)).contiguous(), (scale + _BIAS).to(torch.uint8)


def dequantise(blocks: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """The exact fp32 values [..., columns] of blocks [..., columns / 32, 16] and scales [..., columns / 32]."""
    codes = torch.stack((blocks & 15, blocks >> 4), -1).flatten(-2).int()
    magnitudes = LEVELS.to(blocks.device)[codes & 7]
    signed = torch.where(codes >= 8, -magnitudes, magnitudes)
    return torch.ldexp(signed, (scales.int() - _BIAS)[..., None]).flatten(-2)


def _round_to_levels(values: torch.Tensor) -> torch.Tensor:
    """The nearest E2M1 numbers, ties to the even code.

    Levels are 1/2 apart below 2, 1 apart from 2 to 4, then 4 and 6.
    """
    magnitude = values.abs()
    coarse = torch.where(magnitude < 4, magnitude.round(), 2 * (magnitude / 2).round()).clamp(max=6)
    return torch.where(magnitude < 2, (2 * magnitude).round() / 2, coarse).copysign(values)


def _level_index(levels: torch.Tensor) -> torch.Tensor:
    """The index in LEVELS of each magnitude, uint8."""
    return torch.where(levels < 2, 2 * levels, torch.where(levels < 4, levels + 2, levels / 2 + 4)).to(torch.uint8)
