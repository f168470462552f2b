"""Checks of a finetuning config between its sections: storage, backend, elastic workers; the shipped configs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.config_loading import load_config
from tuneyard.core.errors import ConfigError


def config(storage: str, **sections: object) -> FinetuneConfig:
    run = {"name": "r", "model_name": "m", "storage": storage}
    return FinetuneConfig.model_validate({"run": run, "model": {"base": "b"}, "data": {"train": "t"}, **sections})


@pytest.mark.parametrize(
    ("training", "workers", "obstacle"),
    [
        ({}, {}, None),
        ({"lora": {}}, {}, "training.lora.last_layers: null"),
        ({"method": "full"}, {}, "training.method: full"),
        ({"precision": "bf16"}, {}, "training.precision: bf16"),
        ({"router_aux_loss_coef": 0.1}, {}, "training.router_aux_loss_coef over 0"),
        ({"sharding": "fsdp2"}, {}, "training.sharding: fsdp2"),
        ({"precision": "fp32"}, {"use_gpu": True}, "workers.use_gpu: true"),
    ],
)
def test_outputs_of_frozen_layers_are_kept_only_where_losses_stay_the_same(
    tmp_path: Path, training: dict[str, Any], workers: dict[str, Any], obstacle: str | None
) -> None:
    sections = {"training": {"lora": {"last_layers": 2}} | training, "workers": workers}
    expected = [] if obstacle is None else [obstacle]
    assert config(str(tmp_path), **sections).obstacles_to_kept_outputs == expected
    wanted = sections | {"training": sections["training"] | {"keep_frozen_outputs": True}}
    if obstacle is None:
        config(str(tmp_path), **wanted)
        return
    with pytest.raises(ValidationError, match=f"keep_frozen_outputs cannot be true with {re.escape(obstacle)}"):
        config(str(tmp_path), **wanted)


def test_dpo_reads_pairs(tmp_path: Path) -> None:
    assert config(str(tmp_path)).data.preference is None
    found = config(str(tmp_path), training={"objective": "dpo", "dpo": {"beta": 0.3}})
    assert found.data.preference == "pairs"
    assert found.training.dpo.beta == 0.3
    assert FinetuneConfig.model_validate(found.model_dump(mode="json")) == found


@pytest.mark.parametrize(
    ("sections", "text"),
    [
        ({"data": {"train": "t", "preference": "chosen"}}, r"objective=dpo and data\.preference=chosen contradict"),
        ({"training": {"backend": "nemo"}}, r"dpo does not support training\.backend: nemo.*data\.preference=chosen"),
        ({"data": {"train": "t", "batching": "packed"}}, r"dpo does not support data\.batching: packed"),
        ({"training": {"router_aux_loss_coef": 0.1}}, r"does not support training\.router_aux_loss_coef over 0"),
        ({"training": {"dpo": {"beta": 0}}}, "greater than 0"),
    ],
)
def test_what_dpo_cannot_do_is_refused_with_the_fix(tmp_path: Path, sections: dict[str, Any], text: str) -> None:
    training = {"objective": "dpo"} | sections.get("training", {})
    with pytest.raises(ValidationError, match=text):
        config(str(tmp_path), **(sections | {"training": training}))


def test_pairs_are_not_trained_as_chats(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"objective=supervised and data\.preference=pairs contradict"):
        config(str(tmp_path), data={"train": "t", "preference": "pairs"})


def test_a_model_cannot_have_the_name_of_another_models_adapters(tmp_path: Path) -> None:
    """`acme-adapter` would hold versions of two kinds: models, and the adapters of `acme`."""
    run = {"name": "r", "model_name": "acme-adapter", "storage": str(tmp_path)}
    with pytest.raises(ValidationError, match=r"acme-adapter ends in -adapter.*hold the adapters of acme too\. Choose"):
        config(str(tmp_path), run=run)
    for name in ("acme", "adapter", "acme-adapter-2", "acme-adapters"):
        assert config(str(tmp_path), run=run | {"model_name": name}).run.adapter_name == f"{name}-adapter"


def test_a_password_in_a_uri_is_refused() -> None:
    with pytest.raises(ValueError, match="holds a password"):
        config("s3://key:secret@bucket/x")


def test_nemo_needs_a_folder() -> None:
    with pytest.raises(ValueError, match="give a mounted one that all nodes see"):
        config("s3://bucket/x", training={"backend": "nemo"})


def test_storage_as_a_folder(tmp_path: Path) -> None:
    assert config(f"file://{tmp_path}").run.folder == tmp_path
    with pytest.raises(ConfigError, match="is in an object store"):
        _ = config("s3://bucket/x").run.folder


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))
def test_elastic_worker_counts_process_equal_rows_per_step_or_are_refused(
    low: int, high: int, accumulation: int
) -> None:
    sections: dict[str, dict[str, Any]] = {
        "run": {"name": "r", "model_name": "m"},
        "model": {"base": "b"},
        "data": {"train": "t"},
        "training": {"gradient_accumulation_steps": accumulation},
        "workers": {"num_workers": high, "min_workers": low},
    }
    if low > high or any(accumulation * high % size for size in range(low, high + 1)):
        with pytest.raises(ValidationError, match=r"is more than num_workers|to a multiple of (\d+)") as caught:
            FinetuneConfig.model_validate(sections)
        if match := re.search(r"to a multiple of (\d+)", str(caught.value)):
            sections["training"] = {"gradient_accumulation_steps": int(match[1])}
            FinetuneConfig.model_validate(sections)
        return
    config = FinetuneConfig.model_validate(sections)
    assert {size * config.accumulation_at(size) for size in config.workers.worker_counts} == {accumulation * high}


@pytest.mark.parametrize("path", sorted(Path("jobs/configs").glob("*.yaml")))
def test_shipped_finetune_configs_load(path: Path) -> None:
    load_config(FinetuneConfig, path)
