"""The model that is trained: router loss and adapters as the config says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.training.collator import create_collator
from jobs.training.trainable_model import load_trainable_model
from tests.jobs.training.backend_contract import backend_config, token_rows
from tuneyard.training_data.token_table import TokenTable


@pytest.fixture(scope="module")
def rows(tiny_oss: Path) -> TokenTable:
    return token_rows(tiny_oss)


def test_the_router_loss_is_off_by_default_and_on_when_configured(tiny_oss: Path, rows: Any) -> None:
    """GPT-OSS's own config sets the coefficient to 0.9; ours is 0 unless it is set."""
    losses = []
    for coefficient in (0.0, 0.9):
        model = load_trainable_model(backend_config(tiny_oss, method="full", router_aux_loss_coef=coefficient)).eval()
        with torch.inference_mode():
            losses.append(model(**create_collator(model)(rows.rows.slice(0, 2).to_pylist())).loss.item())
    plain, weighted = losses
    assert weighted > plain + 0.5


def test_adapters_on_the_last_layers_only(tiny_oss: Path) -> None:
    model = load_trainable_model(backend_config(tiny_oss, lora={"last_layers": 1}))
    last = model.config.num_hidden_layers - 1
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert len(trained) == 8
    assert all(f".layers.{last}." in name for name in trained)
