"""transformers as a TrainingBackend: the contract, and what only this backend does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jobs.runs.backend_factory import create_backend
from jobs.training.backend import TokenFiles
from jobs.training.collator import create_collator
from jobs.training.logit_proof import compare_logits
from jobs.training.transformers_backend import load_trainable_model
from tests.jobs.training.backend_contract import RecordingContext, backend_config, check_contract, stored, token_rows
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


def test_logits_only_where_labels_are_change_nothing(tiny_oss: Path, rows: Any) -> None:
    model = load_trainable_model(backend_config(tiny_oss, method="full")).eval()
    batch = create_collator(model)(rows.rows.slice(0, 4).to_pylist())
    with torch.inference_mode():
        kept = model(**batch).loss
        whole = model(**{k: batch[k] for k in ("input_ids", "attention_mask", "labels")}).loss
    assert kept.item() == pytest.approx(whole.item(), rel=1e-5)
    assert len(batch["logits_to_keep"]) < batch["input_ids"].shape[1]


def test_the_router_loss_of_the_config_does_not_blow_up_the_loss(tiny_oss: Path, rows: Any) -> None:
    """GPT-OSS's own config asks for 0.9 of it; the default is none, and it is there when asked for."""
    losses = []
    for coefficient in (0.0, 0.9):
        model = load_trainable_model(backend_config(tiny_oss, method="full", router_aux_loss_coef=coefficient)).eval()
        with torch.inference_mode():
            losses.append(model(**create_collator(model)(rows.rows.slice(0, 2).to_pylist())).loss.item())
    plain, weighted = losses
    assert weighted > plain + 0.5


def test_a_loss_that_is_not_finite_ends_the_run_with_the_fix(
    tiny_oss: Path, tokens: TokenFiles, tmp_path: Path
) -> None:
    asked = backend_config(tiny_oss, method="full", learning_rate=1e30, max_grad_norm=1e30)
    with pytest.raises(TrainingError, match=r"The loss is (nan|inf) at step \d.*Lower training.learning_rate"):
        create_backend(asked).train(asked, tokens, RecordingContext(tmp_path / "w"))


def test_early_stopping_stops(tiny_oss: Path, tokens: TokenFiles, tmp_path: Path) -> None:
    asked = backend_config(
        tiny_oss,
        learning_rate=1e-12,
        max_steps=50,
        eval_every_steps=1,
        checkpoint_every_steps=1,
        early_stopping_patience=2,
    )
    context = RecordingContext(tmp_path / "w")
    create_backend(asked).train(asked, tokens, context)
    assert context.metrics[-1]["step"] < 10


def test_compare_logits_sees_a_difference() -> None:
    logits = [np.array([[0.0, 1.0], [2.0, 0.0]], dtype=np.float32)]
    same = compare_logits(logits, logits)
    assert (same["mean_kl"], same["top1_agreement"], same["positions"]) == (0.0, 1.0, 2.0)
    other = compare_logits(logits, [logits[0][:, ::-1]])
    assert other["mean_kl"] > 0.1
    assert other["top1_agreement"] == 0.0


def test_adapters_on_the_last_layers_only(tiny_oss: Path) -> None:
    model = load_trainable_model(backend_config(tiny_oss, lora={"last_layers": 1}))
    last = model.config.num_hidden_layers - 1
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert len(trained) == 8
    assert all(f".layers.{last}." in name for name in trained)


def test_packed_rows_have_the_loss_and_gradients_of_unpacked_ones(tiny_oss: Path, rows: Any) -> None:
    """fp32, live sinks, window 16 and sparse routing: equal to 1e-5, so no token sees another segment."""
    single = rows.rows.slice(0, 6)
    packed = pack_rows(single, max(map(len, single["input_ids"].to_pylist())) * 2)
    assert 1 < packed.num_rows < 6
    results = []
    for table in (single, packed):
        model = load_trainable_model(backend_config(tiny_oss, method="full")).eval()
        assert model.config.sliding_window == 16
        loss = model(**create_collator(model)(table.to_pylist())).loss
        loss.backward()
        results.append((loss.item(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    (loss, gradients), (packed_loss, packed_gradients) = results
    assert packed_loss == pytest.approx(loss, rel=1e-5)
    assert gradients.keys() == packed_gradients.keys()
    for name, gradient in gradients.items():
        worst = (gradient - packed_gradients[name]).abs().max().item()
        assert worst <= 1e-5 * max(1.0, gradient.abs().max().item()), name


@pytest.mark.parametrize("batching", ["padded", "grouped", "packed"])
def test_every_way_of_batching_trains(tiny_oss: Path, rows: Any, tmp_path: Path, batching: str) -> None:
    table = TokenTable(pack_rows(rows.rows, 512), []) if batching == "packed" else rows
    assert table.num_tokens == rows.num_tokens
    asked = backend_config(tiny_oss, method="full")
    asked = asked.model_copy(update={"data": asked.data.model_copy(update={"batching": batching})})
    context = RecordingContext(tmp_path / "run")
    create_backend(asked).train(asked, stored(table, tmp_path / "t"), context)
    assert context.losses[-1] < context.losses[0]
