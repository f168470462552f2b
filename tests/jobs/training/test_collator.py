"""Batches: fewer logits and packed rows change neither loss nor gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.training.collator import create_collator
from jobs.training.trainable_model import load_trainable_model
from tests.jobs.training.backend_contract import backend_config, token_rows
from tuneyard.training_data.token_table import TokenTable, pack_rows


@pytest.fixture(scope="module")
def rows(tiny_oss: Path) -> TokenTable:
    return token_rows(tiny_oss)


def test_leaving_out_logits_without_labels_does_not_change_the_loss(tiny_oss: Path, rows: Any) -> None:
    model = load_trainable_model(backend_config(tiny_oss, method="full")).eval()
    batch = create_collator(model)(rows.rows.slice(0, 4).to_pylist())
    with torch.inference_mode():
        kept = model(**batch).loss
        whole = model(**{k: batch[k] for k in ("input_ids", "attention_mask", "labels")}).loss
    assert kept.item() == pytest.approx(whole.item(), rel=1e-5)
    assert len(batch["logits_to_keep"]) < batch["input_ids"].shape[1]


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
