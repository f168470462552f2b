"""The rehearsed run's config: everything of the run's own that a small model on CPUs can have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.rehearsal.layout import RehearsedLayout
from jobs.rehearsal.small_run import STEPS, SmallFiles, small_accumulation, small_run
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.config_loading import load_config
from tuneyard.planning.nemo_checks import check_nemo_config
from tuneyard.planning.nemo_parallelism import Parallelism, resolve_parallelism

FILES = SmallFiles(Path("/s/base"), Path("/s/train.jsonl"), Path("/s/heldout.jsonl"), Path("/s/storage"))


@pytest.mark.parametrize("name", ["gpt_oss_20b_lora", "gpt_oss_20b_full", "gpt_oss_120b_lora", "gpt_oss_120b_full"])
def test_a_shipped_config_keeps_its_layout_method_and_precision(name: str) -> None:
    run = load_config(FinetuneConfig, Path(f"jobs/configs/{name}.yaml"))
    small = small_run(run, RehearsedLayout(run.workers.num_workers, resolve_parallelism(run), ""), FILES, 128)
    assert small.workers.num_workers == run.workers.num_workers
    assert resolve_parallelism(small) == resolve_parallelism(run)
    assert (small.training.method, small.precision) == (run.training.method, "bf16")
    assert (small.training.lora, small.nemo.recipe) == (run.training.lora, run.nemo.recipe)
    assert not small.workers.use_gpu
    assert small.training.max_steps == STEPS
    assert small.data.max_length == 128
    assert small.run.storage == "/s/storage"
    check_nemo_config(small)


def test_a_run_on_preference_pairs_stays_one() -> None:
    run = load_config(FinetuneConfig, Path("jobs/configs/demo_dpo_cpu.yaml"))
    small = small_run(run, RehearsedLayout(2, resolve_parallelism(run), ""), FILES, 128)
    assert (small.training.objective, small.training.dpo, small.data.preference) == ("dpo", run.training.dpo, "pairs")


def test_what_a_gpu_decides_stays_as_in_the_run() -> None:
    run = FinetuneConfig.model_validate(
        {
            "run": {"name": "r", "model_name": "m", "resume": False},
            "model": {"base": "/base", "attention_implementation": "flex_attention"},
            "data": {
                "train": "/t.csv",
                "columns": {"prompt": "q", "completion": "a"},
                "problems": {"duplicate": "drop"},
            },
            "training": {"lora": {"experts": True, "last_layers": 3}, "learning_rate": 1e-6},
            "workers": {"num_workers": 2, "use_gpu": True, "accelerator_type": "H100", "max_failures": 0},
        }
    )
    files = SmallFiles(FILES.base, FILES.train, None, FILES.storage)
    small = small_run(run, RehearsedLayout(2, Parallelism(), ""), files, 64)
    assert small.precision == "bf16"
    assert small.uses_gradient_checkpointing
    assert small.training.lora.experts
    assert small.training.lora.last_layers == 1
    assert small.training.learning_rate == 1e-4
    assert small.data.columns == {}
    assert small.data.problems == {"duplicate": "drop"}
    assert small.workers.max_failures == 1
    assert small.run.resume


@given(
    workers=st.integers(1, 12),
    smallest=st.none() | st.integers(1, 12),
    accumulation=st.integers(1, 64),
    less=st.booleans(),
)
def test_the_small_accumulation_is_valid_for_every_number_of_workers(
    workers: int, smallest: int | None, accumulation: int, less: bool
) -> None:
    fields: dict[str, Any] = {
        "run": {"name": "r", "model_name": "m"},
        "model": {"base": "/base"},
        "data": {"train": "/train.jsonl"},
        "training": {"gradient_accumulation_steps": accumulation},
        "workers": {"num_workers": workers, "min_workers": smallest},
    }
    try:
        run = FinetuneConfig.model_validate(fields)
    except ValueError:
        return
    layout = RehearsedLayout(max(1, workers - less), Parallelism(), "")
    small = small_run(run, layout, FILES, 64)  # validates the worker counts
    assert 1 <= small.training.gradient_accumulation_steps <= accumulation
    assert small.training.gradient_accumulation_steps == small_accumulation(run, layout)
    assert (small.training.gradient_accumulation_steps > 1) == (accumulation > 1)
