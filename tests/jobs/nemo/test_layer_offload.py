"""Layer offload: the logits do not change, one module at a time is on the device, and all originals are put back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssDecoderLayer

from jobs.nemo.layer_offload import layers_on_device, offloadable_modules


@pytest.fixture
def model(tiny_oss: Path) -> torch.nn.Module:
    model: torch.nn.Module = transformers.GptOssForCausalLM.from_pretrained(tiny_oss, dtype=torch.float32).eval()
    return model


def size(module: torch.nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def test_one_module_at_a_time_is_copied_and_the_logits_are_the_same(model: torch.nn.Module) -> None:
    ids = torch.arange(20)[None]
    modules = offloadable_modules(model, GptOssDecoderLayer)
    assert sum(map(size, modules)) == size(model), "a tensor belongs to no module, or to two"
    addresses = [tensor.data_ptr() for tensor in model.parameters()]
    copied_bytes = 0

    def copy(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal copied_bytes
        copied_bytes += tensor.nbytes
        copied = [p for p, address in zip(model.parameters(), addresses, strict=True) if p.data_ptr() != address]
        owners = [module for module in modules if any(p is own for p in copied for own in module.parameters())]
        assert len(owners) <= 1, "two modules were on the device at the same time"
        return tensor.clone()

    with torch.no_grad():
        expected = model(ids).logits
        with layers_on_device(modules, copy):
            assert torch.equal(model(ids).logits, expected)
    assert copied_bytes == size(model)
    assert [tensor.data_ptr() for tensor in model.parameters()] == addresses


def test_an_exception_in_the_forward_pass_puts_the_originals_back(model: torch.nn.Module) -> None:
    modules = offloadable_modules(model, GptOssDecoderLayer)
    addresses = [tensor.data_ptr() for tensor in model.parameters()]
    with layers_on_device(modules, torch.clone), pytest.raises(IndexError):
        model(torch.tensor([[10**9]]))
    assert [tensor.data_ptr() for tensor in model.parameters()] == addresses
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)
