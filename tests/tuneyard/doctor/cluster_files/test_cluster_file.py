"""cluster_file: the shipped launcher files pass, and each mistake is reported."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.tuneyard.doctor.cluster_files.changed_documents import (
    AWS,
    EFA,
    GCP,
    LAUNCHER_FILES,
    MANIFESTS,
    ON_PREM,
    OTHER_MANIFESTS,
    ROOT,
    Change,
    all_misspellings,
    changed_copy,
    load,
    misspelled,
    put,
)
from tuneyard.core.errors import ConfigError
from tuneyard.doctor.cluster_files.cluster_file import ALL_PROVIDERS, OPTIONAL, REQUIRED, validate_cluster_file
from tuneyard.doctor.cluster_files.kuberay_file import validate_kuberay_file


def problems_of(path: Path, change: Change, folder: Path) -> list[str]:
    return validate_cluster_file(changed_copy(path, change, folder))


@pytest.mark.parametrize("path", LAUNCHER_FILES, ids=lambda path: path.name)
def test_a_shipped_launcher_file_is_good(path: Path) -> None:
    assert validate_cluster_file(path) == []


@pytest.mark.parametrize("path", [*LAUNCHER_FILES, *MANIFESTS], ids=lambda path: path.name)
def test_the_images_are_pinned_to_the_ray_of_both_environments(path: Path) -> None:
    (pinned,) = {
        line
        for name in ("serve", "nemo")
        for line in (ROOT / f"constraints/{name}.txt").read_text(encoding="utf-8").splitlines()
        if line.startswith("ray==")
    }
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"image: .*-ray([\d.]+)", text)) == {pinned.removeprefix("ray==")}
    assert len(re.findall(r"image: ", text)) == len(
        re.findall(r"image: ghcr.io/your-org/tuneyard-(?:train|serve):", text)
    )


@pytest.mark.parametrize("path", LAUNCHER_FILES, ids=lambda path: path.name)
def test_the_token_that_ray_reads_is_copied_to_every_node(path: Path) -> None:
    data = load(path)
    assert f"--env=RAY_AUTH_TOKEN_PATH={next(iter(data['file_mounts']))}" in data["docker"]["run_options"]
    copy = f"/tmp/ray_tmp_mount/{data['cluster_name']}{next(iter(data['file_mounts']))}"
    assert any(copy in command for command in data["initialization_commands"])


@pytest.mark.parametrize("path", [AWS, EFA], ids=lambda path: path.name)
def test_an_aws_node_config_has_the_keys_of_run_instances(path: Path) -> None:
    botocore = pytest.importorskip("botocore.session")
    from botocore.validate import ParamValidator

    shape = botocore.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    for name, node in load(path)["available_node_types"].items():
        report = ParamValidator().validate({**node["node_config"], "MinCount": 1, "MaxCount": 1}, shape)
        assert not report.has_errors(), f"{name}: {report.generate_report()}"
        assert node["node_config"]["InstanceType"] in shape.members["InstanceType"].enum


def closed_sections(data: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The mappings of a launcher file in which a key can be misspelled, and their places."""
    yield "", data
    yield from ((name, data[name]) for name in ("provider", "auth", "docker"))
    for name, node in data.get("available_node_types", {}).items():
        yield f"available_node_types.{name}", node
        if "docker" in node:
            yield f"available_node_types.{name}.docker", node["docker"]


@pytest.mark.parametrize("path", LAUNCHER_FILES, ids=lambda path: path.name)
def test_a_misspelled_key_is_found_wherever_it_is(path: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed.yaml"
    tried = 0
    for place, data in all_misspellings(path, closed_sections):
        changed.write_text(yaml.safe_dump(data), encoding="utf-8")
        # Without its type, a provider has no known keys.
        wanted = "provider.type: found None" if place == f"provider.{misspelled('type')}" else f"{place}: unknown key"
        found = validate_cluster_file(changed)
        assert any(problem.startswith(wanted) for problem in found), f"{place}: {found}"
        tried += 1
    assert tried >= 18


def test_a_typo_is_answered_with_the_known_keys(tmp_path: Path) -> None:
    def misspell(data: Any) -> None:
        data["max_worker"] = data.pop("max_workers")
        data["idle_timeout_minute"] = data.pop("idle_timeout_minutes")
        data["provider"]["regoin"] = data["provider"].pop("region")

    found = problems_of(AWS, misspell, tmp_path)
    for wanted in (
        "max_worker: unknown key, did you mean max_workers? Known here: auth, available_node_types, ",
        "idle_timeout_minute: unknown key, did you mean idle_timeout_minutes? Known here: auth, ",
        "provider.regoin: unknown key, did you mean region? Known here: availability_zone, aws_credentials, ",
        "provider: 'region' is a required property.",
    ):
        assert any(problem.startswith(wanted) for problem in found), found


@pytest.mark.parametrize("kind", ["aws", "gcp"])
def test_the_providers_keys_are_those_of_rays_own_files(kind: str) -> None:
    import ray.autoscaler

    own = yaml.safe_load((Path(ray.autoscaler.__file__).parent / kind / "defaults.yaml").read_text(encoding="utf-8"))
    assert set(own["provider"]) <= {"type", *REQUIRED[kind], *OPTIONAL[kind], *ALL_PROVIDERS}


def test_ray_itself_lets_a_misspelled_provider_pass_and_opens_ssh() -> None:
    """Why there are rules of our own: when this fails, some can go."""
    config = pytest.importorskip("ray.autoscaler._private.aws.config")
    from ray.autoscaler._private.util import prepare_config, validate_config

    data = load(AWS)
    data["provider"]["regoin"] = data["provider"].pop("region")
    validate_config(prepare_config(data))
    assert {"CidrIp": "0.0.0.0/0"} in [
        r for rule in config._create_default_inbound_rules({"sg-1"}) for r in rule.get("IpRanges", [])
    ]


HEAD, WORKER = "head_start_ray_commands.1", "worker_start_ray_commands.1"
GPU = "available_node_types.gpu_serve"


@pytest.mark.parametrize(
    ("path", "place", "value", "wanted"),
    [
        (AWS, HEAD, "ray start --head --dashboard-host=0.0.0.0", "--dashboard-host 0.0.0.0 opens the dashboard"),
        (GCP, HEAD, "ray start --dashboard-host 0.0.0.0 --head", "--dashboard-host 0.0.0.0 opens the dashboard"),
        (ON_PREM, HEAD, "ray start --head --dashboard-host='::'", "--dashboard-host :: opens the dashboard"),
        (AWS, HEAD, "export RAY_AUTH_MODE=disabled; ray start --head", "starts Ray with RAY_AUTH_MODE disabled"),
        (AWS, "docker.run_options.0", "--env=RAY_AUTH_TOKEN=abc", "the file holds a token"),
        (
            AWS,
            f"{GPU}.max_workers",
            5,
            "found 5; it must be at least this type's min_workers, 0, and at most the file's max_workers, 4",
        ),
        (AWS, f"{GPU}.max_workers", "2", "'2' is not of type 'integer'"),
        (AWS, f"{GPU}.node_config.SecurityGroupIds", [], "missing. Ray would use a security group"),
        (AWS, "provider.type", "azure", "found 'azure'. Known here: aws, gcp, local"),
        (ON_PREM, "available_node_types", {}, "unknown key. Known here: auth, "),
    ],
)
def test_what_is_wrong_is_found(path: Path, place: str, value: object, wanted: str, tmp_path: Path) -> None:
    found = problems_of(path, put(place, value), tmp_path)
    assert any(problem.startswith(f"{place}: {wanted}") for problem in found), found


@pytest.mark.parametrize(("place", "value"), [("head_node_type", "haed"), (f"{GPU}.min_workers", 5)])
def test_what_ray_refuses_is_passed_on(place: str, value: object, tmp_path: Path) -> None:
    (problem,) = problems_of(AWS, put(place, value), tmp_path)
    assert problem.startswith("(the whole file): Ray rejects it: ")


@pytest.mark.parametrize(
    ("start", "is_safe"),
    [
        ("ulimit -n 9; RAY_AUTH_MODE=token ray start", True),
        ("export RAY_AUTH_MODE=token && ulimit -n 9; ray start", True),
        ("RAY_AUTH_MODE=token ulimit -n 9; ray start", False),
        ("ulimit -n 9; ray start", False),
        ("./start.sh", False),
    ],
)
@pytest.mark.parametrize("path", LAUNCHER_FILES, ids=lambda path: path.name)
def test_without_the_containers_token_a_start_command_needs_its_own(
    path: Path, start: str, is_safe: bool, tmp_path: Path
) -> None:
    def change(data: Any) -> None:
        data["docker"]["run_options"] = [one for one in data["docker"]["run_options"] if "/mnt/tuneyard" in one]
        data["head_start_ray_commands"] = data["worker_start_ray_commands"] = ["ray stop", start]

    found = problems_of(path, change, tmp_path)
    assert len(found) == (0 if is_safe else 2)
    assert all(role in problem for role, problem in zip(("head_start", "worker_start"), found, strict=not is_safe))


def test_what_is_left_to_ray_is_checked_as_ray_fills_it_in(tmp_path: Path) -> None:
    found = problems_of(AWS, lambda data: data.pop("head_start_ray_commands"), tmp_path)
    assert any("--dashboard-host 0.0.0.0 opens the dashboard" in problem for problem in found)


@given(
    cidr=st.sampled_from(["0.0.0.0/0", "::/0", "0.0.0.0/1", "198.51.100.7/0", "0::/0"]),
    port=st.integers(0, 65535),
    others=st.lists(st.sampled_from(["203.0.113.7/32", "10.0.0.0/8", "fc00::/7"]), max_size=3),
    place=st.integers(0, 3),
)
def test_an_open_port_is_found_among_others(
    tmp_path_factory: pytest.TempPathFactory, cidr: str, port: int, others: list[str], place: int
) -> None:
    ranges = [*others[:place], cidr, *others[place:]]
    rule = {"FromPort": port, "ToPort": port, "IpProtocol": "tcp", "IpRanges": [{"CidrIp": one} for one in ranges]}
    change = put("provider.security_group", {"GroupName": "tuneyard", "IpPermissions": [rule]})
    found = problems_of(AWS, change, tmp_path_factory.mktemp("open"))
    at = f"provider.security_group.IpPermissions.0.IpRanges.{ranges.index(cidr)}.CidrIp"
    assert found == [f"{at}: {cidr} lets in the whole internet. Give your own address, like 203.0.113.7/32."]


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "a: [", "a: 1\n---\na: 1\n", "a: 1\na: 1\n"])
def test_what_is_no_cluster_at_all_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"cluster\.yaml[:,] "):
        validate_cluster_file(tmp_path / "cluster.yaml")


@pytest.mark.parametrize(
    ("place", "value", "wanted"),
    [
        ("provider.type", ["aws"], "provider.type: found ['aws']. Known here"),
        ("docker.run_options.1", 5, "docker.run_options.1: 5 is not of type 'string'. Put it in quotes."),
        ("file_mounts", {"/a": 5}, "file_mounts./a: 5 is not of type 'string'. Put it in quotes."),
        ("docker.worker_run_options", [True], "docker.worker_run_options.0: True is not of type 'string'."),
        (
            "available_node_types.gpu_train.node_config.NetworkInterfaces",
            ["eth0"],
            "available_node_types.gpu_train.node_config.NetworkInterfaces.0: 'eth0' is not of type 'object'.",
        ),
    ],
)
def test_values_that_rays_own_schema_lets_pass_are_found(
    place: str, value: object, wanted: str, tmp_path: Path
) -> None:
    assert problems_of(AWS, put(place, value), tmp_path)[0].startswith(wanted)


def places_in(node: Any, place: str = "") -> Iterator[str]:
    """The dotted path of every value within a document."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield f"{place}.{key}".lstrip(".")
        if isinstance(value, dict | list):
            yield from places_in(value, f"{place}.{key}".lstrip("."))


VALUES: list[Any] = [None, -1, 1.5, True, "", "'", "{", [], {}, [5], [None], [{}], {"a": 5}, {"a": {"b": []}}]


@pytest.mark.parametrize("path", [*LAUNCHER_FILES, *MANIFESTS, *OTHER_MANIFESTS], ids=lambda path: path.name)
def test_any_value_at_any_place_gives_problems_and_never_another_error(path: Path, tmp_path: Path) -> None:
    validate = validate_cluster_file if path in LAUNCHER_FILES else validate_kuberay_file
    chance = random.Random(path.name)
    # A key with a dot or a number has no dotted path.
    places = [one for one in places_in(load(path)) if "/" not in one and "accelerator_type" not in one]
    for place in chance.sample(places, min(15, len(places))):
        try:
            problems = validate(changed_copy(path, put(place, chance.choice(VALUES)), tmp_path))
        except ConfigError as e:
            problems = [str(e)]
        assert all(problems)
