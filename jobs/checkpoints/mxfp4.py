"""MXFP4 arithmetic: 4-bit floats (E2M1) in blocks of 32 that share a power of two (E8M0).

Source: OCP Microscaling Formats (MX) Specification 1.0. The layout in bytes is that of openai/gpt-oss.
"""

from __future__ import annotations

import torch

from tuneyard.core.errors import CheckpointError

BLOCK = 32
LEVELS = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
"""Magnitudes of E2M1 by their code; bit 3 is the sign."""

_LARGEST_EXPONENT = 2
"""6 = 1.5 · 2², the largest level."""

_BIAS = 127


def quantise(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """fp32 [..., columns] to blocks [..., columns / 32, 16] and scales [..., columns / 32], both uint8.

    The specification's scale is floor(log2(largest)) - 2, which cuts what lies above 6. Of that and the powers of two
    beside it the one with the smallest squared error is taken; no other can be better. Values that MXFP4 can hold come
    back unchanged.
    Raises CheckpointError for a NaN or an infinity, and for columns that are no multiple of 32.
    """
    if values.shape[-1] % BLOCK:
        raise CheckpointError(f"MXFP4 needs rows of a multiple of {BLOCK} values, found {values.shape[-1]}.")
    grouped = values.float().reshape(*values.shape[:-1], -1, BLOCK)
    largest = grouped.abs().amax(-1)
    if not bool(torch.isfinite(largest).all()):
        raise CheckpointError("MXFP4 cannot hold NaN or infinity, and the weights have some.")
    _, exponent = torch.frexp(largest.clamp_min(2.0**-120))  # largest = m · 2^exponent with m in [1/2, 1)
    exponent = exponent - 1 - _LARGEST_EXPONENT
    best: tuple[torch.Tensor, ...] | None = None
    for step in (0, 1, -1):
        scale = (exponent + step).clamp(-_BIAS, _BIAS)
        levels = _nearest(torch.ldexp(grouped, -scale[..., None]))
        error = (torch.ldexp(levels, scale[..., None]) - grouped).square().sum(-1)
        if best is None:
            best = (error, levels, scale)
        else:
            better = error < best[0]
            best = (
                torch.where(better, error, best[0]),
                torch.where(better[..., None], levels, best[1]),
                torch.where(better, scale, best[2]),
            )
    assert best is not None
    _, levels, scale = best
    codes = _code(levels.abs()) | (torch.signbit(levels).to(torch.uint8) << 3)
    return (codes[..., 0::2] | (codes[..., 1::2] << 4)).contiguous(), (scale + _BIAS).to(torch.uint8)


def dequantise(blocks: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """The values that blocks and scales stand for, fp32 [..., columns]; exact."""
    codes = torch.stack((blocks & 15, blocks >> 4), -1).flatten(-2).int()
    magnitudes = LEVELS.to(blocks.device)[codes & 7]
    signed = torch.where(codes >= 8, -magnitudes, magnitudes)
    return torch.ldexp(signed, (scales.int() - _BIAS)[..., None]).flatten(-2)


def _nearest(values: torch.Tensor) -> torch.Tensor:
    """The nearest E2M1 numbers, ties to the even code: steps of 1/2 below 2, of 1 below 4, then 4 and 6."""
    size = values.abs()
    coarse = torch.where(size < 4, size.round(), 2 * (size / 2).round()).clamp(max=6)
    return torch.where(size < 2, (2 * size).round() / 2, coarse).copysign(values)


def _code(size: torch.Tensor) -> torch.Tensor:
    """Where the level stands in LEVELS."""
    return torch.where(size < 2, 2 * size, torch.where(size < 4, size + 2, size / 2 + 4)).to(torch.uint8)
