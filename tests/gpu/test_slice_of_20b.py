"""The first two layers of 20B's shapes: is each attention right, which is fastest, does every way of training run?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.training import flex_attention
from tests.gpu.attention_comparison import (
    logits_and_gradient,
    mean_kl,
    milliseconds,
    random_batch,
    relative_error,
    use_implementations,
)
from tests.gpu.random_gpt_oss import build_on_gpu, free_gpu, peak_gib, published_config
from tests.gpu.training_run import gpu_config, out_of_memory_as_result, random_rows, train_in_memory

pytestmark = pytest.mark.gpu
Record = Callable[[str, dict[str, Any]], None]

LAYERS, LENGTH, PADDING, PLACES = 2, 1024, 200, 64
ATTENTION = ("eager", "flex_attention", flex_attention.NAME)
"""transformers' two with sinks, and ours."""


@pytest.fixture
def fresh_gpu() -> Iterator[None]:
    free_gpu()
    yield
    free_gpu()


def _slice(dtype: torch.dtype = torch.bfloat16) -> Any:
    return build_on_gpu(published_config(LAYERS), dtype=dtype).requires_grad_(False)


@pytest.mark.usefixtures("fresh_gpu")
def test_attention_against_fp32(record: Record) -> None:
    """The default attention is no further from eager fp32 than eager bf16 is. A wrong one is off by 0.1 and more."""
    exact, rounded = _slice(torch.float32), _slice()
    exact.load_state_dict(rounded.state_dict())
    batch = random_batch(exact.config, 2, LENGTH, PADDING)
    places = LENGTH - PADDING
    use_implementations(exact, "eager", "eager")
    logits, gradient = logits_and_gradient(exact, batch, places)
    result: dict[str, Any] = {}
    use_implementations(exact, flex_attention.NAME, "eager")
    found, found_gradient = logits_and_gradient(exact, batch, places)
    result["fp32 " + flex_attention.NAME] = _errors(logits, found, gradient, found_gradient)
    for attention in ATTENTION:
        use_implementations(rounded, attention, "grouped_mm")
        found, found_gradient = logits_and_gradient(rounded, batch, places)
        result["bf16 " + attention] = _errors(logits, found, gradient, found_gradient)
    record("slice-attention-errors", result)
    assert result["fp32 " + flex_attention.NAME]["logits"] < 1e-3
    ours, eager = result["bf16 " + flex_attention.NAME], result["bf16 eager"]
    assert ours["mean_kl"] <= 1.5 * eager["mean_kl"]
    assert ours["gradient"] <= 1.5 * eager["gradient"]


@pytest.mark.usefixtures("fresh_gpu")
def test_time_of_attention_and_experts(record: Record) -> None:
    """Forward and backward of one row, with gradients of the attention's projections only, as LoRA has them."""
    model = _slice()
    for layer in model.model.layers:
        layer.self_attn.requires_grad_(True)
    result: dict[str, Any] = {}
    for length in (2048, 4096):
        batch = random_batch(model.config, 1, length)
        for attention in ATTENTION:
            result[f"{length} {attention} grouped_mm"] = _timed(model, batch, attention, "grouped_mm")
        result[f"{length} {flex_attention.NAME} eager"] = _timed(model, batch, flex_attention.NAME, "eager")
        record("slice-times", result)


@pytest.mark.usefixtures("fresh_gpu")
@pytest.mark.parametrize(
    ("name", "training"),
    [
        ("lora", {}),
        ("lora-no-checkpointing", {"gradient_checkpointing": False}),
        ("lora-experts", {"lora": {"experts": True}}),
        ("full", {"method": "full"}),
        ("full-fp32", {"method": "full", "precision": "fp32"}),
    ],
)
def test_training(name: str, training: dict[str, Any], record: Record, tmp_path: Path) -> None:
    """The loss falls on one row that is trained again and again, with every method."""
    settings = {"epochs": 6, "batch_size_per_worker": 1, "learning_rate": 1e-3}
    config = gpu_config(training={**settings, **training})
    rows = random_rows([2048])

    def build(attention: str, experts: str | None) -> Any:
        exact = training.get("method") == "full"
        dtype = torch.float32 if exact else torch.bfloat16
        return build_on_gpu(published_config(LAYERS), attention, experts, dtype)

    result = out_of_memory_as_result(lambda: train_in_memory(config, rows, tmp_path, build))
    record(f"slice-training-{name}", {"config": training, "length": 2048, **result})
    assert result["losses"][-1] < result["losses"][0]


@pytest.mark.usefixtures("fresh_gpu")
def test_packed_rows_are_the_rows(record: Record) -> None:
    """A packed row gives the logits of its rows alone."""
    import pyarrow as pa

    from jobs.training.collator import create_collator
    from jobs.training.label_logits import label_logits
    from tuneyard.training_data.token_table import TOKEN_COLUMNS, pack_rows

    model = _slice().eval()
    use_implementations(model, flex_attention.NAME, "grouped_mm")
    table: pa.Table = random_rows([300, 200, 400])
    packed = pack_rows(table, 1024).select(list(TOKEN_COLUMNS)).to_pylist()
    assert len(packed) == 1
    assert isinstance(create_collator(model)(packed)["attention_mask"], dict)
    together = torch.from_numpy(label_logits(model, packed)[0])
    order = sorted(range(3), key=lambda i: packed[0]["input_ids"].index(table["input_ids"][i].as_py()[0]))
    alone = label_logits(model, table.take(order).select(list(TOKEN_COLUMNS)).to_pylist())
    apart = torch.cat([torch.from_numpy(each) for each in alone])
    result = {"mean_kl": mean_kl(apart, together), "logits": relative_error(together, apart)}
    record("slice-packed", result)
    assert result["mean_kl"] < 1e-3


def _errors(
    logits: torch.Tensor, found: torch.Tensor, gradient: torch.Tensor, found_gradient: torch.Tensor
) -> dict[str, float]:
    return {
        "logits": relative_error(found, logits),
        "mean_kl": mean_kl(logits, found),
        "gradient": relative_error(found_gradient, gradient),
    }


def _timed(model: Any, batch: dict[str, Any], attention: str, experts: str) -> dict[str, Any]:
    use_implementations(model, attention, experts)
    free_gpu()

    def step() -> None:
        logits = model(**batch, use_cache=False, logits_to_keep=PLACES).logits
        logits.float().logsumexp(-1).mean().backward()

    def measure() -> dict[str, Any]:
        return {"milliseconds": milliseconds(step), **peak_gib()}

    result = out_of_memory_as_result(measure)
    model.zero_grad()
    return result
