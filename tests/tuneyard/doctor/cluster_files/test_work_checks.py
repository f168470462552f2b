"""work_checks: work that the nodes of a cluster file can never hold."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tuneyard.doctor.cluster_files.changed_documents import AWS, EFA, GCP, MANIFESTS, ROOT, changed_copy, put
from tuneyard.cli.main import main
from tuneyard.core.errors import ConfigError
from tuneyard.core.resources import GIB, ResourceRequest
from tuneyard.doctor.cluster_files.cluster_file import validate_cluster_file
from tuneyard.doctor.cluster_files.kuberay_file import validate_kuberay_file
from tuneyard.doctor.cluster_files.planned_work import PlannedWork, load_work
from tuneyard.doctor.cluster_files.quantities import quantity
from tuneyard.doctor.cluster_files.work_checks import NodeType, work_problems

CLUSTER, JOB, SERVICE = MANIFESTS
TRAINING = sorted((ROOT / "jobs/configs").glob("gpt_oss_*.yaml"))
SERVING = sorted((ROOT / "serve_apps/configs").glob("gpt_oss_*_*_*.yaml"))
"""Those of GPUs, which have a model's size, a number of GPUs and their type in their names."""


def test_each_shipped_gpu_config_requests_the_nodes_of_its_image() -> None:
    for path, resource in [*((p, "train") for p in TRAINING), *((p, "serve") for p in SERVING)]:
        assert all(request.per_process[resource] == 1 for request in load_work(path).requests), path
    assert len(TRAINING) >= 4
    assert len(SERVING) >= 12


@pytest.mark.parametrize("config", TRAINING, ids=lambda path: path.stem)
def test_which_shipped_run_fits_which_shipped_cluster(config: Path) -> None:
    """The full 120B run needs four nodes, which the cluster with EFA has."""
    work = [load_work(config)]
    needs_four = config.stem == "gpt_oss_120b_full"
    assert validate_cluster_file(EFA, work) == []
    for found in (
        validate_cluster_file(AWS, work),
        validate_cluster_file(GCP, work),
        validate_kuberay_file(CLUSTER, None, work),
    ):
        assert ["train: 32 needed, 16 available" in problem for problem in found] == ([True] if needs_four else [])


def test_the_work_that_a_manifest_names_itself_is_checked(tmp_path: Path) -> None:
    entrypoint = "python -m jobs.finetune --config jobs/configs/gpt_oss_20b_lora.yaml --set workers.num_workers=16"
    (problem,) = validate_kuberay_file(changed_copy(JOB, put("spec.entrypoint", entrypoint), tmp_path))
    assert "RayJob/tuneyard-finetune: spec.rayClusterSpec.workerGroupSpecs.0: even with every node" in problem
    assert "train: 16 needed, 8 available" in problem
    at = "spec.rayClusterConfig.workerGroupSpecs.0.maxReplicas"
    (problem,) = validate_kuberay_file(changed_copy(SERVICE, put(at, 0), tmp_path))
    assert "serve: 1 needed, 0 available" in problem


def test_the_gateway_is_part_of_a_deployment(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text("models: [{model_id: m, checkpoint: c}]\ngateway: {resources: {edge: 1}}\n", encoding="utf-8")
    (problem,) = validate_cluster_file(AWS, [load_work(path)])
    assert "edge: 1 needed, 0 available" in problem


def test_a_memory_limit_below_what_the_export_takes_is_found(tmp_path: Path) -> None:
    work = [load_work(ROOT / "jobs/configs/gpt_oss_120b_lora.yaml")]
    assert 930e9 < work[0].export_bytes < 950e9
    resources = {"cpu": "96", "memory": "800Gi", "nvidia.com/gpu": "8"}
    at = "spec.workerGroupSpecs.0.template.spec.containers.0.resources"
    changed = changed_copy(CLUSTER, put(at, {"limits": resources}), tmp_path)
    (problem,) = validate_kuberay_file(changed, None, work)
    assert "spec.workerGroupSpecs.0: the memory limit of 800 GiB is below the 87" in problem
    assert validate_kuberay_file(changed, None, [load_work(ROOT / "jobs/configs/gpt_oss_20b_lora.yaml")]) == []


def test_the_command_takes_configs(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["cluster", "validate", str(AWS), "--config", str(ROOT / "jobs/configs/gpt_oss_120b_full.yaml")]
    assert main(command) == 1
    assert "train: 32 needed, 16 available" in capsys.readouterr().out


@given(nodes=st.integers(0, 8), per_node=st.integers(1, 8), workers=st.integers(1, 64))
def test_work_fits_exactly_when_the_maxima_hold_it(nodes: int, per_node: int, workers: int) -> None:
    types = [NodeType("here", nodes, {"GPU": float(per_node), "train": float(per_node)})]
    work = PlannedWork("config.yaml", (ResourceRequest(workers, {"GPU": 1.0, "train": 1.0}),))
    assert (list(work_problems(types, [work])) == []) == (workers <= nodes * per_node)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("96", 96),
        (8, 8),
        ("500m", 0.5),
        ("1200Gi", 1200 * GIB),
        ("1.2Ti", 1.2 * 1024 * GIB),
        ("2G", 2e9),
        ("lots", 0),
        ("1.5e3", 1500),
        ("2Pi", 2 * 2**50),
        ("3E", 3e18),
        (".5", 0.5),
    ],
)
def test_quantities(text: Any, number: float) -> None:
    assert math.isclose(quantity(text), number)


@pytest.mark.parametrize(("gpus", "is_good"), [(8, True), (7, False), (4, False)])
def test_a_node_has_as_many_of_its_custom_resource_as_gpus(gpus: int, is_good: bool, tmp_path: Path) -> None:
    at = "spec.workerGroupSpecs.0.template.spec.containers.0.resources"
    found = validate_kuberay_file(changed_copy(CLUSTER, put(at, {"limits": {"nvidia.com/gpu": gpus}}), tmp_path))
    assert [f"spec.workerGroupSpecs.0: train: 8 beside {gpus} GPUs" in problem for problem in found] == [True] * (
        not is_good
    )
    resources = {"CPU": 208, "GPU": gpus, "train": 8}
    found = validate_cluster_file(
        changed_copy(GCP, put("available_node_types.gpu_train.resources", resources), tmp_path)
    )
    assert [f"gpu_train: train: 8 beside {gpus} GPUs" in problem for problem in found] == [True] * (not is_good)


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"a: 2026-13-45", b"[" * 3000, b"", b"- a\n"])
def test_a_config_that_cannot_be_read_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        load_work(path)
