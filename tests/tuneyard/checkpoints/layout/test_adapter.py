"""Which fields and tensors a plain LoRA adapter may have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.checkpoints.layout.adapter import (
    FIXED_FIELDS,
    FREE_FIELDS,
    adapter_config_problems,
    adapter_tensor_problems,
    is_adapter,
)
from tuneyard.checkpoints.layout.content_hashes import TensorEntry

CONFIG: dict[str, Any] = {"r": 4, "lora_alpha": 8, "peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none"}
PREFIX = "base_model.model."
VALUES = st.one_of(st.text(), st.integers(), st.booleans(), st.lists(st.text()), st.dictionaries(st.text(), st.text()))


def entry(*shape: int) -> TensorEntry:
    return TensorEntry(dtype="F32", shape=shape, sha256="0")


@given(field=st.text(), value=VALUES)
def test_only_fields_of_plain_lora_may_have_a_value(field: str, value: Any) -> None:
    problems = list(adapter_config_problems(CONFIG | {field: value}))
    if field in FREE_FIELDS:
        return
    is_allowed = value == FIXED_FIELDS[field] if field in FIXED_FIELDS else value in (None, False, {}, [])
    assert (problems == []) == is_allowed
    assert all(field in problem for problem in problems)


@pytest.mark.parametrize(
    "fields",
    [
        {"target_modules": "(a+)+$"},
        {"target_modules": ["q_proj", "(a+)+$"]},
        {"target_modules": "all-linear"},
        {"target_parameters": [1]},
        {"layers_pattern": "(.*)*x"},
        {"layers_pattern": ["layers", "(.*)*x"]},
        {"r": 10**9},
        {"r": True},
        {"lora_alpha": float("nan")},
        {"lora_alpha": float("inf")},
    ],
)
def test_what_would_run_for_ever_or_take_all_memory_is_refused(fields: dict[str, Any]) -> None:
    (problem,) = adapter_config_problems(CONFIG | fields)
    assert any(f"{field}" in problem for field in fields)


def test_the_fields_that_training_writes_pass() -> None:
    fields = {
        "target_modules": ["q_proj", "v_proj"],
        "target_parameters": ["model.layers.1.mlp.experts.down_proj"],
        "layers_pattern": "layers",
        "layers_to_transform": [1],
    }
    assert list(adapter_config_problems(CONFIG | fields)) == []


modules = st.dictionaries(
    st.tuples(st.integers(0, 3), st.sampled_from(["self_attn.q_proj", "mlp.experts", "mlp.experts.base_layer"])),
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3)),
    min_size=1,
)


@given(modules=modules, rank=st.integers(1, 4), missing=st.booleans())
def test_pairs_of_the_right_rank_that_fit_the_base_are_an_adapter(
    modules: dict[tuple[int, str], tuple[int, int, int]], rank: int, missing: bool
) -> None:
    """Adapters of experts are stacked along the rank."""
    tensors, base = {}, {}
    for (layer, module), (inputs, outputs, experts) in modules.items():
        name = f"model.layers.{layer}.{module}"
        stacked = rank * experts if "experts" in module else rank
        tensors[f"{PREFIX}{name}.lora_A.weight"] = entry(stacked, inputs)
        tensors[f"{PREFIX}{name}.lora_B.weight"] = entry(outputs, stacked)
        base[f"{name}.weight"] = entry(outputs, inputs)
    config = CONFIG | {"r": rank}
    assert not list(adapter_tensor_problems(config, tensors, base))
    if missing:
        tensors.pop(next(iter(tensors)))
        assert any("lora_A and lora_B" in problem for problem in adapter_tensor_problems(config, tensors, base))


def test_what_is_no_adapter() -> None:
    assert "holds no LoRA matrix" in "".join(adapter_tensor_problems(CONFIG, {}, None))
    name = f"{PREFIX}model.layers.0.self_attn.q_proj"
    pair = {f"{name}.lora_A.weight": entry(4, 8), f"{name}.lora_B.weight": entry(16, 4)}
    assert not list(adapter_tensor_problems(CONFIG, pair, None))
    other = {"model.layers.0.self_attn.q_proj.weight": entry(8, 16)}
    assert "a weight of (16, 8), but the base has (8, 16)" in "".join(adapter_tensor_problems(CONFIG, pair, other))
    assert "the base has no such weight" in "".join(adapter_tensor_problems(CONFIG, pair, {}))


def test_a_folder_with_a_model_of_its_own_is_no_adapter(tmp_path: Path) -> None:
    assert not is_adapter(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    assert is_adapter(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert not is_adapter(tmp_path)
