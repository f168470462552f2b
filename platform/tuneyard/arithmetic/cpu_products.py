"""Products of fp32 matrices by oneDNN, on AMD's CPUs, for which MKL has no 512-bit code.

PyTorch multiplies fp32 matrices with MKL, which uses AVX-512 on Intel's CPUs only. oneDNN, which PyTorch holds too,
uses it on AMD's, in half the time. Both compute in fp32; the order of their sums differs.
"""

from __future__ import annotations

import os
from pathlib import Path

MOST_RELATIVE_ERROR = 1e-6
"""The largest error of a product, relative to its norm. Rounding to bf16 gives 2e-3, to TF32 3e-4; fp32 gives 4e-7."""

KERNELS = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
"""Environment variable for the number of shapes whose code oneDNN keeps. By default it is 1,024, and the memory twice
KERNEL_BYTES; with 64, shapes that never came twice took no more time."""

KERNEL_BYTES = 550_000_000
"""Main memory that oneDNN's code takes in a process whose products have thousands of shapes: 508 MiB were measured."""


def use_fast_products() -> bool:
    """Lets oneDNN multiply this process' fp32 matrices on the CPU, if that is as exact. Returns whether it does.

    Only on AMD's CPUs with AVX-512, and in no process that sees a GPU. Call it before the first product. It is for
    processes that train or end soon: it takes up to KERNEL_BYTES.

    PyTorch calls oneDNN for fp32 matrices only with the precision "medium", which lets it round to bf16. oneDNN does so
    on CPUs with AMX; on others it computes in fp32, and a product that rounding would change shows whether this holds.
    """
    import torch

    if torch.cuda.is_available() or not _is_amd() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    if torch.cpu._is_amx_tile_supported():
        return False
    os.environ.setdefault(*KERNELS)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    is_exact = _product_error() < MOST_RELATIVE_ERROR
    if not is_exact:
        torch.set_float32_matmul_precision(before)
    return is_exact


def _is_amd() -> bool:
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:  # not Linux
        return False


def _product_error() -> float:
    """The error of a product's norm, relative to float64, of a shape for which oneDNN has its fast code."""
    import torch

    numbers = torch.Generator().manual_seed(0)
    a, b = torch.randn(64, 512, generator=numbers), torch.randn(512, 256, generator=numbers)
    exact = a.double() @ b.double()
    return float(torch.linalg.vector_norm((a @ b).double() - exact) / torch.linalg.vector_norm(exact))
