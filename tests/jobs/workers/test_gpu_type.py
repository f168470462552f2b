"""The memory plan uses the GPUs of the nodes that can hold a worker, and not those of the driver's node."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.workers.gpu_type import gpu_types, with_gpu_type
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.configs.workers import WorkersConfig

HEAD = {"CPU": 16.0, "GPU": 1.0, "accelerator_type:L4": 1.0}
TRAIN = {"CPU": 96.0, "GPU": 8.0, "accelerator_type:H100": 1.0, "train": 8.0}
SERVE = {"CPU": 26.0, "GPU": 1.0, "accelerator_type:H200": 1.0, "serve": 1.0}


def workers(**fields: Any) -> WorkersConfig:
    return WorkersConfig.model_validate({"use_gpu": True} | fields)


@pytest.mark.parametrize(
    ("config", "nodes", "types"),
    [
        (workers(resources_per_worker={"train": 1}), [HEAD, TRAIN, SERVE], ["H100"]),
        (workers(cpus_per_worker=20), [HEAD, TRAIN, SERVE], ["H100", "H200"]),
        (workers(), [{**HEAD, "GPU": 0.0}, TRAIN], ["H100"]),
        (workers(), [{"CPU": 8.0, "GPU": 2.0}, TRAIN], ["H100", "unknown"]),
        (workers(resources_per_worker={"train": 1}), [HEAD], []),
        (workers(), [], []),
    ],
)
def test_only_nodes_that_can_hold_a_worker_count(
    config: WorkersConfig, nodes: list[dict[str, float]], types: list[str]
) -> None:
    assert gpu_types(config, nodes) == types


@given(st.lists(st.sampled_from(["L4", "A100", "H100", None]), max_size=6), st.integers(0, 5))
def test_every_node_with_a_gpu_is_seen_and_no_other(kinds: list[str | None], without_gpu: int) -> None:
    nodes = [{"CPU": 8.0, "GPU": 1.0} | ({f"accelerator_type:{kind}": 1.0} if kind else {}) for kind in kinds]
    nodes += [{"CPU": 8.0, "accelerator_type:B200": 1.0}] * without_gpu
    assert gpu_types(workers(), nodes) == sorted({kind or "unknown" for kind in kinds})


def test_the_configs_own_type_stays_and_cpus_get_none() -> None:
    fields = {"run": {"name": "r", "model_name": "m"}, "model": {"base": "b"}, "data": {"train": "t"}}
    for given_workers, expected in (
        ({"use_gpu": True}, "H100"),
        ({"use_gpu": True, "accelerator_type": "A100"}, "A100"),
        ({"use_gpu": False}, None),
    ):
        config = FinetuneConfig.model_validate(fields | {"workers": given_workers})
        assert with_gpu_type(config, "H100").workers.accelerator_type == expected
        assert with_gpu_type(config, None) == config
