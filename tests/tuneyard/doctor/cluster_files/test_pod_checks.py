"""pod_checks: pods that would not start, or that would be evicted."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _get_custom_resources

from tests.tuneyard.doctor.cluster_files.changed_documents import (
    MANIFESTS,
    OTHER_MANIFESTS,
    changed_copy,
    load,
    put,
)
from tuneyard.cli.main import main
from tuneyard.doctor.cluster_files.kuberay_file import CLUSTER_SPEC_PATHS, validate_kuberay_file
from tuneyard.doctor.cluster_files.yaml_documents import read_documents, value_at

POD = "{}.template"
CONTAINER = "{}.template.spec.containers.0"


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
@pytest.mark.parametrize("group", ["headGroupSpec", "workerGroupSpecs.0"])
@pytest.mark.parametrize(
    ("place", "value", "wanted"),
    [
        (f"{POD}.metadata.annotations", {}, f"{POD}.metadata.annotations: the pod can be evicted"),
        (
            f"{POD}.metadata.annotations",
            {"karpenter.sh/do-not-disrupt": "true"},
            f"{POD}.metadata.annotations: the pod can be evicted",
        ),
        (f"{POD}.spec.imagePullSecrets", None, f"{POD}.spec.imagePullSecrets: missing"),
        (f"{CONTAINER}.securityContext", {}, f"{CONTAINER}.securityContext: a namespace with"),
        (f"{CONTAINER}.volumeMounts", [], f"{CONTAINER}.volumeMounts: no volume of a PersistentVolumeClaim"),
        (
            f"{CONTAINER}.volumeMounts.0.mountPath",
            "/mnt/tuney",
            f"{CONTAINER}.volumeMounts: no volume of a PersistentVolumeClaim",
        ),
        (f"{CONTAINER}.volumeMounts.0.subPath", "models/base", f"{CONTAINER}.volumeMounts: the kubelet creates"),
        (
            f"{POD}.spec.volumes",
            [{"name": "home", "emptyDir": {}}],
            f"{CONTAINER}.volumeMounts: no volume of a PersistentVolumeClaim",
        ),
    ],
)
def test_a_pod_that_fails_is_found(
    path: Path, group: str, place: str, value: object, wanted: str, tmp_path: Path
) -> None:
    data = load(path)
    at = CLUSTER_SPEC_PATHS[data["kind"]]
    found = validate_kuberay_file(changed_copy(path, put(f"{at}.{place.format(group)}", value), tmp_path))
    name = f"{data['kind']}/{data['metadata']['name']}: {at}."
    assert [problem.startswith(name + wanted.format(group)) for problem in found] == [True], found


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_the_autoscalers_container_needs_a_security_context_of_its_own(path: Path, tmp_path: Path) -> None:
    at = CLUSTER_SPEC_PATHS[load(path)["kind"]]
    (problem,) = validate_kuberay_file(changed_copy(path, put(f"{at}.autoscalerOptions", {}), tmp_path))
    assert f"{at}.autoscalerOptions.securityContext: found None" in problem


@pytest.mark.parametrize("change", [{"imagePullSecrets": []}, {"serviceAccountName": "puller"}])
def test_public_images_and_service_accounts_need_no_pull_secret(change: dict[str, Any], tmp_path: Path) -> None:
    def apply(data: Any) -> None:
        for group in (data["spec"]["headGroupSpec"], *data["spec"]["workerGroupSpecs"]):
            del group["template"]["spec"]["imagePullSecrets"]
            group["template"]["spec"] |= change

    assert validate_kuberay_file(changed_copy(MANIFESTS[0], apply, tmp_path)) == []


@pytest.mark.parametrize("path", OTHER_MANIFESTS, ids=lambda path: path.name)
def test_the_manifests_beside_the_clusters_are_good(path: Path) -> None:
    assert validate_kuberay_file(path) == []


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_ray_reads_the_groups_custom_resources(path: Path) -> None:
    cluster = value_at(load(path), CLUSTER_SPEC_PATHS[load(path)["kind"]])
    (group,) = cluster["workerGroupSpecs"]
    expected = {"serve": 1} if load(path)["kind"] == "RayService" else {"train": 8}
    assert _get_custom_resources({}, group["rayStartParams"], "gpu") == expected


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_the_head_is_kept_when_nodes_are_drained_and_prometheus_is_let_in(path: Path) -> None:
    cluster, *others = read_documents(path)
    head = value_at(cluster, CLUSTER_SPEC_PATHS[cluster["kind"]])["headGroupSpec"]["template"]["metadata"]["labels"]
    (budget,) = (one for one in others if one["kind"] == "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 0
    assert budget["spec"]["selector"]["matchLabels"] == head | {"ray.io/node-type": "head"}
    (policy,) = (one for one in others if one["kind"] == "NetworkPolicy")
    assert policy["spec"]["podSelector"]["matchLabels"] == head
    assert "monitoring" in yaml.safe_dump(policy["spec"]["ingress"])


def test_the_bootstrap_runs_commands_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = (path for path in OTHER_MANIFESTS if path.name == "bootstrap.yaml")
    script = load(path)["spec"]["template"]["spec"]["containers"][0]["command"][-1]
    commands = [shlex.split(line.partition(">")[0].strip("( ")) for line in script.splitlines() if "tuneyard " in line]
    names = [command[command.index("tuneyard") + 1 :][:2] for command in commands]
    assert names == [["models", "adopt"], ["keys", "create"]]
    for name in names:
        with pytest.raises(SystemExit) as ended:
            main([*name, "--help"])
        assert ended.value.code == 0
    capsys.readouterr()


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_pod_of_ray_needs_a_home_on_the_volume(path: Path, tmp_path: Path) -> None:
    at = f"{CLUSTER_SPEC_PATHS[load(path)['kind']]}.headGroupSpec.template.spec.containers.0"
    (problem,) = validate_kuberay_file(changed_copy(path, put(f"{at}.env", []), tmp_path))
    assert f": {at}.env: no TUNEYARD_HOME" in problem


@pytest.mark.parametrize(
    "resources",
    [
        {"requests": {"nvidia.com/gpu": "8"}, "limits": {"nvidia.com/gpu": 4}},
        {"requests": {"nvidia.com/gpu": "8"}},
    ],
)
def test_gpus_have_equal_requests_and_limits(resources: dict[str, Any], tmp_path: Path) -> None:
    at = "spec.workerGroupSpecs.0.template.spec.containers.0.resources"
    problem, *_ = validate_kuberay_file(changed_copy(MANIFESTS[0], put(at, resources), tmp_path))
    assert f": {at}: nvidia.com/gpu has the limit" in problem
    at = "spec.workerGroupSpecs.0.template.spec.containers.0.resources"
    only_limits = put(at, {"limits": {"nvidia.com/gpu": 8}})
    assert validate_kuberay_file(changed_copy(MANIFESTS[0], only_limits, tmp_path)) == []
