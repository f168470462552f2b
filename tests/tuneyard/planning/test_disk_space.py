"""The disk space of a run is calculated from known sizes; a run that does not fit is refused."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from safetensors import safe_open

from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import StorageFullError
from tuneyard.planning.disk_space import check_disk_space, count_parameters, storage_needed

GPT_OSS_20B = {
    "num_hidden_layers": 24,
    "num_local_experts": 32,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "vocab_size": 201088,
    "dtype": "bfloat16",
}


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def config(storage: Path, **training: Any) -> FinetuneConfig:
    return FinetuneConfig.model_validate(
        {
            "run": {"name": "r", "model_name": "m", "storage": str(storage)},
            "model": {"base": "b"},
            "data": {"train": "t"},
            "training": training,
        }
    )


def test_parameters_are_those_of_the_checkpoint(tiny_oss: Path) -> None:
    source = json.loads((tiny_oss / "config.json").read_text())
    with safe_open(tiny_oss / "model.safetensors", framework="np") as weights:
        shapes = [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118
    assert count_parameters(source) == sum(math.prod(shape) for shape in shapes)


def test_gpt_oss_20b_has_21_billion_parameters(tmp_path: Path) -> None:
    """20.9 B, as its model card says; a full NeMo run holds four checkpoints of 14 bytes each, and two copies."""
    assert count_parameters(GPT_OSS_20B) == pytest.approx(20.9e9, rel=0.01)
    full = storage_needed(config(tmp_path, backend="nemo", method="full", precision="bf16"), GPT_OSS_20B)
    assert full == pytest.approx((4 * 14 + 2 * 2) * 20.9e9, rel=0.01)
    lora = storage_needed(config(tmp_path, backend="nemo", method="lora", precision="bf16"), GPT_OSS_20B)
    assert lora == pytest.approx(2 * 2 * 20.9e9, rel=0.02)


def test_a_run_that_does_not_fit_is_refused_with_both_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_config = config(tmp_path / "not made yet", method="full")
    check_disk_space(run_config, GPT_OSS_20B | {"num_hidden_layers": 1, "num_local_experts": 1, "vocab_size": 8})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 100 * 10**9))
    with pytest.raises(
        StorageFullError, match=r"has 100\.0 GB free, but .* take about 79\d\.\d GB\. Free space, or set"
    ):
        check_disk_space(run_config, GPT_OSS_20B)


def test_what_a_resumed_run_has_already_written_is_not_counted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = GPT_OSS_20B | {"num_hidden_layers": 1, "num_local_experts": 1, "vocab_size": 8, "hidden_size": 64}
    run_config = config(tmp_path, method="full")
    needed = storage_needed(run_config, small)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, needed - 1000))
    with pytest.raises(StorageFullError):
        check_disk_space(run_config, small)
    (tmp_path / "runs" / "r").mkdir(parents=True)
    (tmp_path / "runs" / "r" / "checkpoint").write_bytes(b"x" * 1000)
    check_disk_space(run_config, small)


def test_each_exported_checkpoint_takes_the_space_of_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exporting(count: int, **training: object) -> FinetuneConfig:
        found = config(tmp_path, method="full", **training)
        return found.model_copy(update={"run": found.run.model_copy(update={"exported_checkpoints": count})})

    one = storage_needed(exporting(1), GPT_OSS_20B)
    two = storage_needed(exporting(2), GPT_OSS_20B)
    three = storage_needed(exporting(3), GPT_OSS_20B)
    parameters = count_parameters(GPT_OSS_20B)
    weight_bytes = two - one
    assert weight_bytes in (2 * parameters, 4 * parameters)
    # Three are kept while a fourth is written, each with 12 bytes per trained parameter.
    assert three - two == weight_bytes + 12 * parameters
    # A run of one epoch saves one checkpoint, unless it saves within epochs.
    assert storage_needed(exporting(3, epochs=1.0), GPT_OSS_20B) == one
    assert storage_needed(exporting(3, epochs=1.0, checkpoint_every_steps=5), GPT_OSS_20B) == three
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 10**9))
    with pytest.raises(StorageFullError, match=r"or export fewer than 3 checkpoints: run\.exported_checkpoints"):
        check_disk_space(exporting(3), GPT_OSS_20B)
