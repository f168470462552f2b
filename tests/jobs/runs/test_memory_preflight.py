"""The memory of GPUs is planned from the rendered rows, shown, and checked before workers are requested."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.runs.data_summary import data_summary
from jobs.runs.finetuning import check_gpu_memory
from jobs.runs.preflight import prepare_run
from jobs.workers import gpu_type
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
        "trains on GPUs in bf16 with gradient checkpointing; about 0.0 GiB on each GPU. Weights: 0.0"
    )


def test_a_batch_that_no_gpu_holds_is_refused(tiny_oss: Path, tmp_path: Path) -> None:
    config = on_gpu(run_config(tmp_path, tiny_oss, ROWS, [("q3", "a3")]), batch_size_per_worker=10_000_000)
    with pytest.raises(ConfigError, match=r"The run needs about \d+.\d GiB on each GPU, but a H100 has 79.1 GiB"):
        prepare_run(config)


def test_without_a_type_the_clusters_nodes_decide(
    tiny_oss: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not the GPU of the driver's node. `prepare_run` refuses nothing, because it does not know the workers' GPUs."""
    config = on_gpu(run_config(tmp_path, tiny_oss, ROWS, [("q3", "a3")]), batch_size_per_worker=10_000_000)
    config = config.model_copy(update={"workers": config.workers.model_copy(update={"accelerator_type": None})})
    prepared = prepare_run(config)
    with pytest.raises(ConfigError, match=r"a L4 has 22.0 GiB"):
        prepare_run(config, "L4")
    for found, waits, reason in (
        (["H100"], True, "nodes are still to come"),
        (["H100", "L4"], False, "the GPUs of nodes that can hold a worker are H100 and L4"),
        (["unknown"], False, "the GPUs of nodes that can hold a worker are unknown"),
        (["RTX-PRO-6000"], False, "the GPUs of nodes that can hold a worker are RTX-PRO-6000"),
    ):
        monkeypatch.setattr(gpu_type, "cluster_gpu_types", lambda _, found=found: found)
        check_gpu_memory(config, prepared, waits_for_nodes=waits)
        assert f"GPU memory is not checked: {reason}" in " ".join(capsys.readouterr().out.split()), found
    monkeypatch.setattr(gpu_type, "cluster_gpu_types", lambda _: ["H100"])
    with pytest.raises(ConfigError, match=r"a H100 has 79.1 GiB"):
        check_gpu_memory(config, prepared, waits_for_nodes=False)
    check_gpu_memory(on_gpu(config), prepared, waits_for_nodes=False)
    assert capsys.readouterr().out == ""


def test_gradient_checkpointing_does_not_change_what_a_run_may_resume(tiny_oss: Path, tmp_path: Path) -> None:
    config = run_config(tmp_path, tiny_oss, ROWS, [("q3", "a3")])
    prepared = prepare_run(config)
    before = prepared.inputs_fingerprint(config)
    for training, is_same in (
        ({"gradient_checkpointing": True}, True),
        ({"keep_frozen_outputs": False}, True),
        ({"precision": "fp32"}, True),
        ({"precision": "bf16"}, False),
        # A checkpoint of another form.
        ({"sharding": "fsdp2"}, False),
    ):
        changed = config.model_copy(update={"training": config.training.model_copy(update=training)})
        assert (prepared.inputs_fingerprint(changed) == before) is is_same
