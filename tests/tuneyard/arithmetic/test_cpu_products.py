"""fp32 products by oneDNN: as exact as MKL's, and only where the CPU makes them so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import GptOssForCausalLM

from tuneyard.arithmetic import cpu_products
from tuneyard.arithmetic.cpu_products import KERNEL_BYTES, MOST_RELATIVE_ERROR, use_fast_products


@pytest.fixture
def has_fast_products() -> None:
    if not use_fast_products():
        pytest.skip("needs an AMD CPU with AVX-512")


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 8, 33, 154, 1000])
@pytest.mark.usefixtures("has_fast_products")
def test_products_keep_the_precision_of_fp32(rows: int, transposed: bool) -> None:
    a = torch.randn(rows, 576)
    b = torch.randn(768, 576).t() if transposed else torch.randn(576, 768)
    exact = a.double() @ b.double()
    error = torch.linalg.vector_norm((a @ b).double() - exact) / torch.linalg.vector_norm(exact)
    assert error < MOST_RELATIVE_ERROR


@pytest.mark.usefixtures("has_fast_products")
def test_loss_and_gradients_are_those_of_mkl(tiny_oss: Path) -> None:
    model = GptOssForCausalLM.from_pretrained(tiny_oss, dtype=torch.float32, attn_implementation="eager")
    tokens = torch.arange(96).reshape(2, 48) % model.config.vocab_size

    def loss_and_gradients() -> tuple[float, torch.Tensor]:
        model.zero_grad()
        loss = model(tokens, labels=tokens).loss
        loss.backward()
        return float(loss.detach()), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    fast, fast_gradients = loss_and_gradients()
    torch.set_float32_matmul_precision("highest")
    loss, gradients = loss_and_gradients()
    assert fast == pytest.approx(loss, rel=1e-6)
    torch.testing.assert_close(fast_gradients, gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("has_fast_products")
def test_a_cpu_that_would_round_keeps_mkl(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_float32_matmul_precision("highest")
    monkeypatch.setattr(cpu_products, "_product_error", lambda: 2e-3)
    assert not use_fast_products()
    assert torch.get_float32_matmul_precision() == "highest"


def test_the_probe_sees_products_in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    product = torch.Tensor.__matmul__
    monkeypatch.setattr(
        torch.Tensor,
        "__matmul__",
        lambda a, b: product(a.bfloat16(), b.bfloat16()).to(a.dtype) if a.dtype == torch.float32 else product(a, b),
    )
    assert cpu_products._product_error() > 100 * MOST_RELATIVE_ERROR


@pytest.mark.parametrize("reason", ["a GPU", "no AVX-512", "AMX", "Intel"])
def test_nothing_changes_with(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_float32_matmul_precision("highest")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: reason == "a GPU")
    monkeypatch.setattr(
        torch.backends.cpu, "get_cpu_capability", lambda: "AVX2" if reason == "no AVX-512" else "AVX512"
    )
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: reason == "AMX")
    monkeypatch.setattr(cpu_products, "_is_amd", lambda: reason != "Intel")
    assert not use_fast_products()
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.usefixtures("has_fast_products")
def test_shapes_without_end_take_bounded_memory() -> None:
    """In a process of its own: oneDNN reads the limit of its code before its first product."""
    program = """
import re, torch
from pathlib import Path
from tuneyard.arithmetic.cpu_products import use_fast_products
def held():
    return 1024 * int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
torch.set_num_threads(1)
assert use_fast_products()
before = held()
for rows in range(2, 1200):
    torch.ones(rows, 192) @ torch.ones(192, 96 + rows % 3)
print(held() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < KERNEL_BYTES
