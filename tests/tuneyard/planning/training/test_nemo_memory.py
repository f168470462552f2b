"""What NeMo takes at least: its parts add up to the model, and a run that cannot fit is refused with what may fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import ConfigError
from tuneyard.core.resources import GIB
from tuneyard.planning.disk_space import count_parameters
from tuneyard.planning.nemo_parallelism import Parallelism
from tuneyard.planning.training.memory_plan import BatchShape
from tuneyard.planning.training.nemo_memory import nemo_memory, stage_parameters
from tuneyard.planning.training.nemo_memory_checks import check_nemo_memory

BASE = json.loads((Path(__file__).parents[3] / "gpu" / "gpt_oss_20b_config.json").read_text(encoding="utf-8"))
BATCH = BatchShape(1, 2048, 1024)


def nemo_config(
    gpu: str | None = None,
    workers: int = 1,
    pipeline: int = 1,
    expert: int = 1,
    length: int = 2048,
    **training: Any,
) -> FinetuneConfig:
    sections = {
        "run": {"name": "r", "model_name": "m"},
        "model": {"base": "b"},
        "data": {"train": "t", "max_length": length},
        "training": {"backend": "nemo", **training},
        "workers": {"use_gpu": True, "num_workers": workers, "accelerator_type": gpu},
        "nemo": {"pipeline_parallel": pipeline, "expert_parallel": expert},
    }
    return FinetuneConfig.model_validate(sections)


@given(st.sampled_from([1, 2, 3, 4, 6, 8, 12, 24]), st.sampled_from([1, 2, 4, 8, 16, 32]))
def test_all_ranks_together_hold_the_model_once(pipeline: int, expert: int) -> None:
    parallelism = Parallelism(pipeline=pipeline, expert=expert)
    parts = [stage_parameters(BASE, parallelism, stage) for stage in range(pipeline)]
    assert sum(dense + expert * experts for dense, experts in parts) == count_parameters(BASE)


@given(
    st.sampled_from(["lora", "full"]),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 4),
    st.integers(16, 8192),
)
def test_more_ranks_never_take_more_and_more_tokens_never_less(
    method: str, expert: int, pipeline: int, rows: int, tokens: int
) -> None:
    def total(expert: int, rows: int, length: int) -> int:
        config = nemo_config(workers=64, pipeline=pipeline, expert=expert, length=length, method=method)
        return nemo_memory(config, BASE, BatchShape(rows, length, length)).total

    least = total(expert, rows, tokens)
    assert total(2 * expert, rows, tokens) < least
    assert total(expert, rows + 1, tokens) > least
    assert total(expert, rows, tokens + 2) > least  # rows of pipelines have an even number of tokens


def test_the_parts_of_a_full_run_on_one_gpu() -> None:
    """2 bytes of a weight, 4 of its gradient, 12 of its copy in fp32 and AdamW's moments; all logits twice."""
    memory = nemo_memory(nemo_config(method="full"), BASE, BATCH)
    parameters = count_parameters(BASE)
    assert (memory.weights, memory.state) == (2 * parameters, 16 * parameters)
    assert memory.logits == 2048 * 201_088 * 6
    divided = nemo_memory(nemo_config(method="full", workers=8), BASE, BATCH)
    assert divided.state == parameters * 4 + parameters * 12 // 8


def test_a_frozen_model_takes_its_weights_and_little_more() -> None:
    memory = nemo_memory(nemo_config(), BASE, BATCH)
    assert 38.9 * GIB < memory.weights < 39.1 * GIB
    assert memory.state < 0.2 * GIB
    last = nemo_config(lora={"last_layers": 6})
    assert nemo_memory(last, BASE, BATCH).state == pytest.approx(memory.state / 4, rel=0.01)
    assert nemo_memory(last, BASE, BATCH).activations == memory.activations // 4


@pytest.mark.parametrize(
    ("config", "batch", "numbers", "ways"),
    [
        (
            nemo_config("H100", method="full"),
            BATCH,
            r"at least 358.\d GiB on a GPU, but a H100 has 79.1 GiB. Weights: 39.0 GiB; gradients and optimizer: 311",
            ["training.method: lora (at least 4"],
        ),
        (
            nemo_config("L40S"),
            BATCH,
            "at least 44.8",
            ["nemo.expert_parallel: 2 with workers.num_workers: 2", "max_length: 1024"],
        ),
        (nemo_config("H100", precision="fp32"), BATCH, "at least 8", ["training.precision: bf16 (at least 44"]),
        (
            nemo_config("H100", batch_size_per_worker=16),
            BatchShape(16, 2048, 2048),
            r"at least 1\d\d.\d",
            ["training.batch_size_per_worker: 1 with gradient_accumulation_steps: 16"],
        ),
    ],
)
def test_a_run_that_cannot_fit_is_refused(
    config: FinetuneConfig, batch: BatchShape, numbers: str, ways: list[str]
) -> None:
    with pytest.raises(ConfigError, match=numbers) as caught:
        check_nemo_memory(config, BASE, batch)
    for way in ways:
        assert way in str(caught.value)


def test_nothing_is_refused_without_a_known_gpu() -> None:
    for gpu in (None, "some-new-gpu"):
        assert check_nemo_memory(nemo_config(gpu, method="full"), BASE, BATCH).total > 300 * GIB
    assert check_nemo_memory(nemo_config("H100"), BASE, BATCH).total < 50 * GIB
