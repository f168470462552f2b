"""The memory of GPUs is planned from the rendered rows, shown, and checked before workers are requested."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.runs.data_summary import data_summary
from jobs.runs.preflight import prepare_run
from tests.jobs.runs.test_preflight import ROWS, run_config
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import ConfigError


def on_gpu(config: FinetuneConfig, **training: Any) -> FinetuneConfig:
    workers = config.workers.model_copy(update={"use_gpu": True, "accelerator_type": "H100"})
    return config.model_copy(update={"workers": workers, "training": config.training.model_copy(update=training)})


def test_a_run_on_gpus_shows_its_precision_and_memory(tiny_oss: Path, tmp_path: Path) -> None:
    config = run_config(tmp_path, tiny_oss, ROWS, [("q3", "a3")])
    assert prepare_run(config).memory is None
    lines = data_summary(prepare_run(on_gpu(config)), on_gpu(config))
    assert lines[-1].startswith(
        "trains on GPUs in bf16 with gradient checkpointing; about 0.0 GiB on each. Weights: 0.0"
    )


def test_a_batch_that_no_gpu_holds_is_refused(tiny_oss: Path, tmp_path: Path) -> None:
    config = on_gpu(run_config(tmp_path, tiny_oss, ROWS, [("q3", "a3")]), batch_size_per_worker=10_000_000)
    with pytest.raises(ConfigError, match=r"The run needs about \d+.\d GiB on each GPU, but a H100 has 79.1 GiB"):
        prepare_run(config)


def test_gradient_checkpointing_does_not_change_what_a_run_may_resume(tiny_oss: Path, tmp_path: Path) -> None:
    config = run_config(tmp_path, tiny_oss, ROWS, [("q3", "a3")])
    prepared = prepare_run(config)
    before = prepared.inputs_fingerprint(config)
    for training, is_same in (
        ({"gradient_checkpointing": True}, True),
        ({"precision": "fp32"}, True),
        ({"precision": "bf16"}, False),
    ):
        changed = config.model_copy(update={"training": config.training.model_copy(update=training)})
        assert (prepared.inputs_fingerprint(changed) == before) is is_same
