"""transformers as a TrainingBackend: the contract, and what only this backend does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from jobs.training.backend import TokenFiles
from jobs.workers.backend_factory import create_backend
from tests.jobs.training.backend_contract import (
    RecordingContext,
    backend_config,
    check_contract,
    check_pair_contract,
    pair_rows,
    stored,
    token_rows,
)
from tuneyard.checkpoints.layout.adapter import ADAPTER_WEIGHTS
from tuneyard.core.errors import TrainingError
from tuneyard.training_data.token_table import TokenTable, pack_rows


@pytest.fixture(scope="module")
def rows(tiny_oss: Path) -> TokenTable:
    return token_rows(tiny_oss)


@pytest.fixture
def tokens(rows: Any, tmp_path: Path) -> TokenFiles:
    return stored(rows, tmp_path / "tokens")


@pytest.mark.parametrize(
    "method", [{"method": "lora"}, {"method": "lora", "lora": {"experts": True, "rank": 4}}, {"method": "full"}]
)
def test_contract(tiny_oss: Path, rows: TokenTable, tmp_path: Path, method: dict[str, Any]) -> None:
    check_contract(backend_config(tiny_oss, **method), rows, tmp_path)


@pytest.mark.parametrize(
    "method", [{"method": "lora"}, {"method": "lora", "lora": {"experts": True, "rank": 4}}, {"method": "full"}]
)
def test_contract_of_preference_pairs(tiny_oss: Path, tmp_path: Path, method: dict[str, Any]) -> None:
    config = backend_config(tiny_oss, objective="dpo", **method)
    check_pair_contract(config, pair_rows(tiny_oss), pair_rows(tiny_oss, chats=16, start=100), tmp_path)


def test_a_loss_that_is_not_finite_ends_the_run_with_the_fix(
    tiny_oss: Path, tokens: TokenFiles, tmp_path: Path
) -> None:
    config = backend_config(tiny_oss, method="full", learning_rate=1e30, max_grad_norm=1e30)
    with pytest.raises(TrainingError, match=r"The loss is (nan|inf) at step \d.*Lower training.learning_rate"):
        create_backend(config).train(config, tokens, RecordingContext(tmp_path / "w"))


def test_the_seed_reaches_the_adapters(tiny_oss: Path, tokens: TokenFiles, tmp_path: Path) -> None:
    """Equal seeds give equal first values, whatever the process has drawn before."""

    def first_values(name: str, seed: int) -> dict[str, torch.Tensor]:
        training = {"learning_rate": 1e-30, "max_steps": 1, "checkpoint_every_steps": 1, "seed": seed}
        config = backend_config(tiny_oss, **training)
        context = RecordingContext(tmp_path / name)
        create_backend(config).train(config, tokens, context)
        values = load_file(context.checkpoints[-1] / ADAPTER_WEIGHTS)
        return {name: value for name, value in values.items() if "lora_A" in name}

    one, again, other = first_values("one", 17), first_values("again", 17), first_values("other", 18)
    assert one
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    assert not any(torch.equal(value, other[name]) for name, value in one.items())


def test_early_stopping_stops(tiny_oss: Path, tokens: TokenFiles, tmp_path: Path) -> None:
    config = backend_config(
        tiny_oss,
        learning_rate=1e-12,
        max_steps=50,
        eval_every_steps=1,
        checkpoint_every_steps=1,
        early_stopping_patience=2,
    )
    context = RecordingContext(tmp_path / "w")
    create_backend(config).train(config, tokens, context)
    assert context.metrics[-1]["step"] < 10


def test_patience_survives_a_resume(tiny_oss: Path, tokens: TokenFiles, tmp_path: Path) -> None:
    """Resumed at any of its checkpoints, a run stops at the step at which the uninterrupted run stopped."""
    config = backend_config(tiny_oss, learning_rate=1e-12, max_steps=50, eval_every_steps=1, checkpoint_every_steps=1)
    training = config.training.model_copy(update={"early_stopping_patience": 3})
    config = config.model_copy(update={"training": training})
    context = RecordingContext(tmp_path / "w")
    create_backend(config).train(config, tokens, context)
    last = int(context.metrics[-1]["step"])
    assert 4 <= last < 50
    # One checkpoint per step. At the last but one, two evaluations without a lower loss have been counted.
    for step in (1, last - 1):
        resumed = RecordingContext(tmp_path / f"resumed-{step}", resume_from=context.checkpoints[step - 1])
        create_backend(config).train(config, tokens, resumed)
        assert resumed.metrics[-1]["step"] == last


def test_a_checkpoint_is_ranked_by_the_loss_of_its_own_step(tiny_oss: Path, tokens: TokenFiles, tmp_path: Path) -> None:
    """Evaluations at steps 2, 4, 6; checkpoints there and at 3. Step 3 has no loss of its own."""
    config = backend_config(tiny_oss, early_stopping_patience=5)
    context = RecordingContext(tmp_path / "w")
    create_backend(config).train(config, tokens, context)
    assert {m["step"]: m.get("eval_loss") for m in context.checkpoint_metrics} == {
        2: context.evaluations[2],
        3: None,
        4: context.evaluations[4],
        6: context.evaluations[6],
    }


@pytest.mark.parametrize("batching", ["padded", "grouped", "packed"])
def test_every_way_of_batching_trains(tiny_oss: Path, rows: Any, tmp_path: Path, batching: str) -> None:
    table = TokenTable(pack_rows(rows.rows, 512), []) if batching == "packed" else rows
    assert table.num_tokens == rows.num_tokens
    config = backend_config(tiny_oss, method="full")
    config = config.model_copy(update={"data": config.data.model_copy(update={"batching": batching})})
    context = RecordingContext(tmp_path / "run")
    create_backend(config).train(config, stored(table, tmp_path / "t"), context)
    assert context.losses[-1] < context.losses[0]


def test_a_full_gpu_ends_the_run_with_the_fix(tiny_oss: Path, tokens: TokenFiles, tmp_path: Path) -> None:
    """The model raises what PyTorch raises when a GPU's memory is full."""
    from jobs.training.trainable_model import load_trainable_model
    from jobs.training.transformers_backend import TransformersBackend

    def load(config: Any) -> Any:
        model = load_trainable_model(config)
        model.register_forward_pre_hook(_fill_memory)
        return model

    def _fill_memory(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nand more")

    config = backend_config(tiny_oss)
    with pytest.raises(TrainingError, match=r"memory is full: CUDA out .* 2.00 GiB\. Lower training.batch_size_per_wo"):
        TransformersBackend(load).train(config, tokens, RecordingContext(tmp_path / "w"))
