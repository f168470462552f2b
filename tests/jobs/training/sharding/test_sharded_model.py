"""A sharded model holds the weights that worker 0 loaded, and no other worker loads any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from jobs.training.sharding.sharded_model import load_sharded_model
from jobs.training.trainable_model import empty_trainable_model, load_trainable_model
from tests.forked_processes import call_in_processes
from tests.jobs.training.backend_contract import backend_config
from tests.jobs.training.sharding.worker_group import in_group
from tests.mxfp4_base import download_mxfp4
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.ports import free_port


def _compare(rank: int, port: int, config: FinetuneConfig) -> None:
    in_group(rank, 3, port)

    def load(config: FinetuneConfig) -> Any:
        assert rank == 0, "only worker 0 may load the model"
        torch.manual_seed(7)
        return load_trainable_model(config)

    model = load_sharded_model(config, load, torch.device("cpu"))
    torch.manual_seed(7)
    expected = load_trainable_model(config)
    held = 0
    for name, weight in expected.named_parameters():
        part = model.get_parameter(name)
        assert isinstance(part, DTensor)
        assert part.requires_grad is weight.requires_grad
        assert torch.equal(part.full_tensor(), weight), name
        held += part.to_local().numel()
    for name, buffer in expected.named_buffers():
        assert torch.equal(model.get_buffer(name), buffer), name
    assert held < 0.4 * sum(weight.numel() for weight in expected.parameters())
    dist.destroy_process_group()


@pytest.mark.parametrize("training", [{"lora": {"experts": True}}, {"method": "full"}])
def test_a_sharded_model_is_the_model(tiny_oss: Path, tmp_path: Path, training: dict[str, Any]) -> None:
    """On three workers, by which no size of tiny-oss can be divided."""
    base = tmp_path / "published"
    download_mxfp4(tiny_oss, base)
    call_in_processes(_compare, 3, free_port(), backend_config(base, **training))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_an_empty_model_has_the_dtypes_of_the_loaded_one(tiny_oss: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    from jobs.training.model_loading import empty_dequantised, load_dequantised

    base = tmp_path / "published"
    download_mxfp4(tiny_oss, base)
    empty, loaded = (make(base, dtype, on_gpu=True) for make in (empty_dequantised, load_dequantised))
    assert {name: (p.dtype, p.shape) for name, p in empty.named_parameters()} == {
        name: (p.dtype, p.shape) for name, p in loaded.named_parameters()
    }
    assert all(p.is_meta for p in empty.parameters())
    assert not hasattr(empty.config, "quantization_config")
    assert all(p.is_meta for p in empty_trainable_model(backend_config(base)).parameters())
