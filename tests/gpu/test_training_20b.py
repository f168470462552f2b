"""LoRA on a model of 20B's exact shapes, with random weights: tokens/s and peak memory, and the ways of batching."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.gpu.random_gpt_oss import build_on_gpu, free_gpu, published_config
from tests.gpu.training_run import gpu_config, out_of_memory_as_result, random_rows, train_in_memory
from tuneyard.training_data.token_table import pack_rows

pytestmark = pytest.mark.gpu
Record = Callable[[str, dict[str, Any]], None]
EPOCHS = 6
"""Each of one step; the last three are timed."""

EXPERTS = {"lora": {"experts": True}}
NO_CHECKPOINTING = {"gradient_checkpointing": False}

CASES: list[tuple[int, int, dict[str, Any], dict[str, Any]]] = [
    # Rows in a batch, tokens in a row, training, model.
    (1, 2048, {}, {}),
    (4, 2048, {}, {}),
    (1, 4096, {}, {}),
    (1, 2048, EXPERTS, {}),
    (1, 2048, NO_CHECKPOINTING, {}),
    (1, 4096, EXPERTS, {}),
    (1, 4096, NO_CHECKPOINTING, {}),
    (1, 2048, {}, {"attention_implementation": "eager"}),
    (1, 4096, {}, {"attention_implementation": "eager"}),
    (2, 4096, {}, {}),
    (1, 2048, {}, {"experts_implementation": "eager"}),
]


def build_20b(attention: str, experts: str | None) -> Any:
    return build_on_gpu(published_config(), attention, experts)


def name_of(rows: int, length: int, training: dict[str, Any], model: dict[str, Any]) -> str:
    words = [f"{rows}x{length}", *("experts" for _ in [0] if training == EXPERTS)]
    words += ["no-checkpointing" for _ in [0] if training == NO_CHECKPOINTING]
    return "-".join(words + [f"{value}-{name.split('_')[0]}" for name, value in model.items()])


@pytest.mark.parametrize("case", CASES, ids=lambda case: name_of(*case))
def test_lora(case: tuple[int, int, dict[str, Any], dict[str, Any]], record: Record, tmp_path: Path) -> None:
    rows, length, training, model = case
    settings = {"epochs": EPOCHS, "batch_size_per_worker": rows, "learning_rate": 1e-4}
    config = gpu_config(training={**settings, **training}, model=model)
    result = out_of_memory_as_result(lambda: train_in_memory(config, random_rows([length] * rows), tmp_path, build_20b))
    free_gpu()
    record(f"20b-lora-{name_of(*case)}", {"rows": rows, "length": length, **training, **model, **result})
    assert "out_of_memory" in result or all(np.isfinite(result["losses"]))


def test_batching(record: Record, tmp_path: Path) -> None:
    """The same rows of long-tailed lengths, padded, grouped by length, and packed; tokens without the padding."""
    lengths = np.minimum(2048, np.random.default_rng(3).lognormal(5.7, 0.8, 96).astype(int) + 16).tolist()
    table = random_rows(lengths)
    result: dict[str, Any] = {"rows": len(lengths), "tokens": sum(lengths)}
    for batching in ("packed", "grouped", "padded"):
        rows = pack_rows(table, 2048) if batching == "packed" else table
        per_batch = 2 if batching == "packed" else 8
        settings = {"batch_size_per_worker": per_batch, "epochs": 2, "learning_rate": 1e-4}
        config = gpu_config(training=settings, data={"batching": batching})
        folder = tmp_path / batching
        folder.mkdir()
        run = out_of_memory_as_result(lambda c=config, r=rows, f=folder: train_in_memory(c, r, f, build_20b))
        free_gpu()
        result[batching] = {"rows_per_batch": per_batch, **run}
        record("20b-batching", result)
