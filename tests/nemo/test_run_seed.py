"""The run's seed decides the adapters' first values and dropout; equal seeds give equal runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from jobs.workers.backend_factory import create_backend
from tests.jobs.training.backend_contract import RecordingContext, backend_config, stored, token_rows

pytestmark = [pytest.mark.nemo, pytest.mark.usefixtures("nemo_fixes")]


def train_once(tiny_fp32: Path, tmp_path: Path, name: str, seed: int) -> dict[str, torch.Tensor]:
    """The adapters' matrices A after one step with next to no learning rate: their first values."""
    from jobs.nemo.checkpoint_folders import nemo_base, read_pointer
    from jobs.nemo.export import load_with_adapters

    config = backend_config(
        tiny_fp32,
        name=name,
        backend="nemo",
        learning_rate=1e-12,
        max_steps=1,
        checkpoint_every_steps=1,
        eval_every_steps=1,
        seed=seed,
    )
    context = RecordingContext(tmp_path / name)
    create_backend(config).train(config, stored(token_rows(tiny_fp32), tmp_path / f"tokens-{name}"), context)
    model = load_with_adapters(read_pointer(context.checkpoints[-1]), nemo_base(config))
    return {name: value.detach().clone() for name, value in model.named_parameters() if ".adapter.linear_in" in name}


def test_the_seed_reaches_the_adapters(tiny_fp32: Path, tmp_path: Path) -> None:
    first, same, other = (
        train_once(tiny_fp32, tmp_path, name, seed) for name, seed in (("one", 17), ("again", 17), ("other", 0))
    )
    assert first.keys() == same.keys() == other.keys() != set()
    for name, value in first.items():
        assert value.std() > 1e-3
        assert torch.allclose(value, same[name], atol=1e-6), name
        assert (value - other[name]).abs().max() > 1e-2, name


def test_the_seed_reaches_dropout(imported: Path) -> None:
    from jobs.nemo.connectors.hf_exporter import HFExporter
    from jobs.nemo.setup.run_seed import RunSeed

    HFExporter(str(imported)).nemo_load(imported)  # creates Megatron's groups, whose ranks are part of a seed

    def mask(seed: int) -> torch.Tensor:
        RunSeed(seed).setup(None, None, "fit")  # type: ignore[arg-type]
        return torch.nn.functional.dropout(torch.ones(1000), 0.5)

    assert torch.equal(mask(17), mask(17))
    assert not torch.equal(mask(17), mask(18))
    assert not torch.equal(mask(-1), mask(0))
