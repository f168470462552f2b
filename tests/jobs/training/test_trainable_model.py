"""The model that is trained: router loss and adapters as the config says."""

from __future__ import annotations

from pathlib import Path

from jobs.training.trainable_model import load_trainable_model
from tests.jobs.training.backend_contract import backend_config


def test_adapters_on_the_last_layers_only(tiny_oss: Path) -> None:
    model = load_trainable_model(backend_config(tiny_oss, lora={"last_layers": 1}))
    last = model.config.num_hidden_layers - 1
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert len(trained) == 8
    assert all(f".layers.{last}." in name for name in trained)


def test_expert_adapters_on_the_last_layers_only(tiny_oss: Path) -> None:
    model = load_trainable_model(backend_config(tiny_oss, lora={"last_layers": 1, "experts": True}))
    last = model.config.num_hidden_layers - 1
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert len(trained) == 8 + 4
    assert all(f".layers.{last}." in name for name in trained)
