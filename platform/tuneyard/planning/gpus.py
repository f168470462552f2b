"""The GPU types that Tuneyard plans for: compute capability and memory."""

from __future__ import annotations

from dataclasses import dataclass

OVERHEAD_GIB = 4.0
"""Assumed memory per GPU for activations, CUDA context, NCCL and CUDA graphs, in GiB. No figure is published."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU type."""

    name: str
    sm: int
    """Compute capability × 10."""
    memory_gib: float
    """Total memory as CUDA reports it, which is less than the advertised size."""

    @property
    def is_hopper(self) -> bool:
        """Whether the GPU has Hopper's kernels (SM 90)."""
        return self.sm == 90

    @property
    def is_blackwell(self) -> bool:
        """Whether the GPU is a Blackwell data center GPU. Blackwell RTX GPUs (SM 120) have other kernels."""
        return 100 <= self.sm < 120


GPUS = {
    gpu.name: gpu
    for gpu in (
        # Memory: "has a total capacity of …" in public CUDA error logs. SM: developer.nvidia.com/cuda-gpus.
        Gpu("L4", 89, 22.03),
        Gpu("L40S", 89, 44.3),
        Gpu("A100", 80, 79.1),
        Gpu("H100", 90, 79.1),
        Gpu("H200", 90, 139.8),
        Gpu("B200", 100, 178.3),
    )
}
"""GPU types by the name that a config gives them."""
