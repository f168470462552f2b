"""Parts that visit: the same logits, no more than one part away at a time, everything back where it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssDecoderLayer

from jobs.nemo.layer_offload import parts, visits


@pytest.fixture
def model(tiny_oss: Path) -> torch.nn.Module:
    model: torch.nn.Module = transformers.GptOssForCausalLM.from_pretrained(tiny_oss, dtype=torch.float32).eval()
    return model


def size(module: torch.nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def test_each_part_comes_alone_and_the_logits_are_the_same(model: torch.nn.Module) -> None:
    ids = torch.arange(20)[None]
    visiting = parts(model, GptOssDecoderLayer)
    assert sum(map(size, visiting)) == size(model), "a tensor belongs to no part, or to two"
    addresses = [tensor.data_ptr() for tensor in model.parameters()]
    moved = 0

    def move(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal moved
        moved += tensor.nbytes
        away = [p for p, address in zip(model.parameters(), addresses, strict=True) if p.data_ptr() != address]
        owners = [part for part in visiting if any(p is own for p in away for own in part.parameters())]
        assert len(owners) <= 1, "two parts were away at a time"
        return tensor.clone()

    with torch.no_grad():
        expected = model(ids).logits
        with visits(visiting, move):
            assert torch.equal(model(ids).logits, expected)
    assert moved == size(model)
    assert [tensor.data_ptr() for tensor in model.parameters()] == addresses


def test_what_is_raised_inside_leaves_nothing_away(model: torch.nn.Module) -> None:
    visiting = parts(model, GptOssDecoderLayer)
    addresses = [tensor.data_ptr() for tensor in model.parameters()]
    with visits(visiting, torch.clone), pytest.raises(IndexError):
        model(torch.tensor([[10**9]]))
    assert [tensor.data_ptr() for tensor in model.parameters()] == addresses
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in visiting)
