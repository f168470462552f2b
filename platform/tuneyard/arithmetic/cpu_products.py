"""Products of fp32 matrices by oneDNN, on CPUs for which MKL has no 512-bit code.

PyTorch multiplies fp32 matrices with MKL, which uses AVX-512 on Intel's CPUs only. oneDNN, which PyTorch holds too,
uses it on all that have it: on AMD's it takes half the time. Both compute in fp32; the order of their sums differs.
"""

from __future__ import annotations

MOST_RELATIVE_ERROR = 1e-6
"""Of a product's norm. Rounding to bf16 gives 2e-3, to TF32 3e-4; fp32 gives 4e-7."""


def use_fast_products() -> bool:
    """Lets oneDNN multiply this process' fp32 matrices on the CPU, if it is as exact here. Returns whether it does.

    Nothing changes in a process that sees a GPU, or on a CPU without AVX-512.

    PyTorch calls oneDNN for fp32 matrices only with the precision "medium", which lets it round to bf16. It does so on
    CPUs with AMX, as its guide says of `fpmath_mode`; they keep MKL, which is as fast there. On others it computes in
    fp32, and a product that bf16 would change shows whether this holds.
    """
    import torch

    if torch.cuda.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    if torch.cpu._is_amx_tile_supported():
        return False
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    is_exact = _product_error() < MOST_RELATIVE_ERROR
    if not is_exact:
        torch.set_float32_matmul_precision(before)
    return is_exact


def _product_error() -> float:
    """The error of a product's norm, relative to float64, over a shape that oneDNN has its fast code for."""
    import torch

    numbers = torch.Generator().manual_seed(0)
    a, b = torch.randn(64, 512, generator=numbers), torch.randn(512, 256, generator=numbers)
    exact = a.double() @ b.double()
    return float(torch.linalg.vector_norm((a @ b).double() - exact) / torch.linalg.vector_norm(exact))
