"""GPUs that Tuneyard knows, as far as a plan needs them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """`memory_gib` is what CUDA reports as total, which is less than the name says. `sm`: compute capability × 10."""

    name: str
    sm: int
    memory_gib: float

    @property
    def is_hopper(self) -> bool:
        return self.sm == 90

    @property
    def is_blackwell(self) -> bool:
        """The data centre parts; SM 120 (RTX) has other kernels."""
        return 100 <= self.sm < 120


GPUS = {
    gpu.name: gpu
    for gpu in (
        # "has a total capacity of …" in public logs; compute capabilities from developer.nvidia.com/cuda-gpus.
        Gpu("L4", 89, 22.03),
        Gpu("L40S", 89, 44.3),
        Gpu("A100", 80, 79.1),
        Gpu("H100", 90, 79.1),
        Gpu("H200", 90, 139.8),
        Gpu("B200", 100, 178.3),
    )
}
