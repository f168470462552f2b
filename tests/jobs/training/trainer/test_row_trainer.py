"""What a step trains on does not depend on batches: the router's loss, the held-out loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.training.backend import TokenFiles
from jobs.training.trainable_model import load_trainable_model
from jobs.training.transformers_backend import TransformersBackend
from tests.jobs.training.backend_contract import RecordingContext, backend_config, stored, token_rows
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.training_data.token_table import TokenTable, pack_rows


@pytest.fixture(scope="module")
def rows(tiny_oss: Path) -> TokenTable:
    return token_rows(tiny_oss, chats=8)


def _run(
    base: Path,
    tokens: TokenFiles,
    folder: Path,
    batching: str = "padded",
    load: Callable[[FinetuneConfig], Any] = load_trainable_model,
    **training: Any,
) -> RecordingContext:
    config = backend_config(base, method="full", max_steps=1, eval_every_steps=1, **training)
    config = config.model_copy(update={"data": config.data.model_copy(update={"batching": batching})})
    context = RecordingContext(folder)
    TransformersBackend(load).train(config, tokens, context)
    return context


def test_the_loss_of_a_step_is_the_same_in_one_batch_in_four_and_packed(
    tiny_oss: Path, rows: TokenTable, tmp_path: Path
) -> None:
    """With the router's loss at GPT-OSS's own weight. transformers' own would be 1, 2 and 4 times as large."""
    count = rows.rows.num_rows
    tokens = stored(rows, tmp_path / "rows")
    one = _run(tiny_oss, tokens, tmp_path / "one", router_aux_loss_coef=0.9, batch_size_per_worker=count)
    many = {
        f"{parts}": _run(
            tiny_oss,
            tokens,
            tmp_path / f"parts-{parts}",
            router_aux_loss_coef=0.9,
            batch_size_per_worker=-(-count // parts),
            gradient_accumulation_steps=parts,
        )
        for parts in (2, 4)
    }
    packed_rows = pack_rows(rows.rows, 2048)
    packed = stored(TokenTable(packed_rows, []), tmp_path / "packs")
    many["packed"] = _run(
        tiny_oss,
        packed,
        tmp_path / "packed",
        "packed",
        router_aux_loss_coef=0.9,
        batch_size_per_worker=packed_rows.num_rows,
    )
    plain = _run(tiny_oss, tokens, tmp_path / "plain", batch_size_per_worker=count)
    assert one.losses[0] > plain.losses[0] + 0.9
    for name, run in many.items():
        assert run.losses == pytest.approx(one.losses, rel=1e-5), name


def test_gradient_checkpointing_changes_neither_loss_nor_gradient(
    tiny_oss: Path, rows: TokenTable, tmp_path: Path
) -> None:
    """Only that the layers of a step are computed twice, once more in the backward pass."""
    passes = {True: 0, False: 0}

    def run(on: bool) -> RecordingContext:
        def count(*_: Any) -> None:
            passes[on] += torch.is_grad_enabled()

        def load(config: FinetuneConfig) -> Any:
            model = load_trainable_model(config)
            model.model.layers[0].self_attn.register_forward_hook(count)
            return model

        folder = tmp_path / f"{on}"
        return _run(tiny_oss, tokens, folder, load=load, gradient_checkpointing=on, router_aux_loss_coef=0.5)

    tokens = stored(rows, tmp_path / "rows")
    runs = [run(on) for on in passes]
    assert passes == {True: 2, False: 1}
    first, second = ([(m["loss"], m["grad_norm"]) for m in run.metrics if "loss" in m] for run in runs)
    assert first[0] == pytest.approx(second[0], rel=1e-5)


def test_the_heldout_loss_is_the_mean_over_tokens_at_any_batch_size(
    tiny_oss: Path, rows: TokenTable, tmp_path: Path
) -> None:
    """Rows of very different lengths, of which the last batch holds one."""
    tokens = stored(rows, tmp_path / "rows")
    losses = [
        _run(
            tiny_oss,
            tokens,
            tmp_path / f"{size}",
            learning_rate=1e-30,
            batch_size_per_worker=size,
            gradient_accumulation_steps=1,
        ).evaluations[1]
        for size in (1, 3, 7)
    ]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)
