"""The model that is trained: router loss and adapters as the config says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from jobs.training import flex_attention
from jobs.training.collator import create_collator
from jobs.training.trainable_model import empty_trainable_model, load_for_run, load_trainable_model
from tests.jobs.training.backend_contract import backend_config
from tuneyard.planning.training.memory_plan import FLEX_BLOCK


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


@pytest.mark.parametrize(
    ("training", "frozen", "trained"),
    [
        ({"method": "full"}, set(), {torch.float32}),
        ({"method": "lora"}, {torch.bfloat16}, {torch.float32}),
        ({"method": "lora", "precision": "fp32"}, {torch.float32}, {torch.float32}),
    ],
)
def test_what_a_gpu_trains_in_bf16_has_fp32_weights(
    tiny_oss: Path,
    monkeypatch: pytest.MonkeyPatch,
    training: dict[str, str],
    frozen: set[torch.dtype],
    trained: set[torch.dtype],
) -> None:
    """AdamW on bf16 weights loses small steps: 100 steps at 5e-6 moved 7.8 % of the weights."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    config = backend_config(tiny_oss, **training)
    config = config.model_copy(
        update={
            "workers": config.workers.model_copy(update={"use_gpu": True}),
            "model": config.model.model_copy(update={"attention_implementation": "eager"}),
        }
    )
    assert config.precision == training.get("precision", "bf16")
    weights = list(load_trainable_model(config).parameters())
    assert {weight.dtype for weight in weights if not weight.requires_grad} == frozen
    assert {weight.dtype for weight in weights if weight.requires_grad} == trained


@pytest.mark.parametrize(
    ("has_gpu", "chosen", "attention"),
    [
        (True, None, flex_attention.NAME),
        (True, "flex_attention", flex_attention.NAME),
        (True, "eager", "eager"),
        (False, None, "eager"),
    ],
)
def test_a_gpu_trains_without_all_scores_in_memory(
    tiny_oss: Path, monkeypatch: pytest.MonkeyPatch, has_gpu: bool, chosen: str | None, attention: str
) -> None:
    """The collator makes the batches that this attention takes: rows in whole blocks."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    config = backend_config(tiny_oss)
    config = config.model_copy(
        update={
            "workers": config.workers.model_copy(update={"use_gpu": has_gpu}),
            "model": config.model.model_copy(update={"attention_implementation": chosen}),
        }
    )
    model = empty_trainable_model(config)
    assert model.config._attn_implementation == attention
    row = {"input_ids": [1, 2, 3], "position_ids": [0, 1, 2], "labels": [1, 2, 3], "segment_ids": [0, 0, 0]}
    padded = create_collator(model)([row])["input_ids"].shape
    assert padded == (1, FLEX_BLOCK if attention == flex_attention.NAME else 3)


def test_an_export_on_a_gpu_node_has_the_experts_of_a_cpu(tiny_oss: Path) -> None:
    """Its model stays in main memory, where transformers' default for GPUs is slow."""
    config = backend_config(tiny_oss)
    on_gpus = config.model_copy(update={"workers": config.workers.model_copy(update={"use_gpu": True})})
    model = load_for_run(tiny_oss, on_gpus, torch.float32)
    assert model.get_experts_implementation()[""] == "eager"
    assert load_for_run(tiny_oss, on_gpus, torch.float32, on_gpu=True).get_experts_implementation()[""] == "grouped_mm"
