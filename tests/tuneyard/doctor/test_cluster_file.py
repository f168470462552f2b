"""cluster_file and kuberay_file: the shipped files are good, and what is wrong is found and named.

kuberay_schemas.json.gz holds the schemas of KubeRay's CRDs (commit feeaf72fa, August 2026; those of release 1.7.0 are
the same), as load_crds reads them. From a checkout of KubeRay:

    import gzip, json, pathlib
    from tuneyard.doctor.kuberay_file import load_crds

    crds = load_crds(pathlib.Path("ray-operator/config/crd/bases"))
    text = json.dumps(crds, separators=(",", ":"))
    pathlib.Path("tests/tuneyard/kuberay_schemas.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.core.errors import ConfigError
from tuneyard.doctor.cluster_file import (
    OF_ALL,
    OPTIONAL,
    REQUIRED,
    read_documents,
    schema_problems,
    validate_cluster_file,
)
from tuneyard.doctor.kuberay_file import CLUSTER_AT, load_crds, validate_kuberay_file

ROOT = Path(__file__).resolve().parents[3]
AWS = ROOT / "cluster.yaml"
GCP = ROOT / "platform/clusters/gcp.yaml"
ON_PREM = ROOT / "platform/clusters/on_prem.yaml"
LAUNCHER_FILES = (AWS, GCP, ON_PREM)
MANIFESTS = tuple(sorted((ROOT / "platform/kuberay").glob("*.yaml")))
CRDS: dict[str, Any] = json.loads(gzip.decompress(Path(__file__).with_name("kuberay_schemas.json.gz").read_bytes()))

Change = Callable[[Any], object]


def load(path: Path) -> Any:
    """The first document, with nothing shared between places as aliases would."""
    return json.loads(json.dumps(read_documents(path)[0]))


def problems_of(path: Path, change: Change, folder: Path, crds: dict[str, Any] | None = CRDS) -> list[str]:
    data = load(path)
    change(data)
    changed = folder / path.name
    changed.write_text(yaml.safe_dump(data), encoding="utf-8")
    return validate_cluster_file(changed) if path in LAUNCHER_FILES else validate_kuberay_file(changed, crds)


def put(dotted: str, value: Any) -> Change:
    def change(data: Any) -> None:
        *way, last = (int(key) if key.isdigit() else key for key in dotted.split("."))
        for key in way:
            data = data[key]
        data[last] = value

    return change


@pytest.mark.parametrize("path", LAUNCHER_FILES, ids=lambda path: path.name)
def test_a_shipped_launcher_file_is_good(path: Path) -> None:
    assert validate_cluster_file(path) == []


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_shipped_manifest_is_good(path: Path) -> None:
    assert validate_kuberay_file(path, CRDS) == []
    assert validate_kuberay_file(path) == []


def test_a_manifest_of_each_kind_is_shipped() -> None:
    assert {read_documents(path)[0]["kind"] for path in MANIFESTS} == set(CLUSTER_AT) == set(CRDS)


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


def test_an_aws_node_config_has_the_keys_of_run_instances() -> None:
    botocore = pytest.importorskip("botocore.session")
    from botocore.validate import ParamValidator

    shape = botocore.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    for name, node in load(AWS)["available_node_types"].items():
        report = ParamValidator().validate({**node["node_config"], "MinCount": 1, "MaxCount": 1}, shape)
        assert not report.has_errors(), f"{name}: {report.generate_report()}"
        assert node["node_config"]["InstanceType"] in shape.members["InstanceType"].enum


@pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`:DeprecationWarning")
def test_serve_knows_every_key_of_the_rayservice() -> None:
    from ray.serve.schema import HTTPOptionsSchema, ServeApplicationSchema, ServeDeploySchema

    (path,) = (path for path in MANIFESTS if load(path)["kind"] == "RayService")
    config = yaml.safe_load(load(path)["spec"]["serveConfigV2"])
    ServeDeploySchema.model_validate(config)
    # Serve lets unknown keys pass.
    assert set(config) <= set(ServeDeploySchema.model_fields)
    assert set(config["http_options"]) <= set(HTTPOptionsSchema.model_fields)
    for application in config["applications"]:
        assert set(application) <= set(ServeApplicationSchema.model_fields)
        assert set(application["args"]) == {"config"}
        file = Path(application["args"]["config"])
        assert (ROOT / file.relative_to("/opt/tuneyard")).is_file(), "the serve image holds the rooms there"


def closed_sections(data: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The mappings of a launcher file in which a key can be misspelled, and their places."""
    yield "", data
    yield from ((name, data[name]) for name in ("provider", "auth", "docker"))
    for name, node in data.get("available_node_types", {}).items():
        yield f"available_node_types.{name}", node
        if "docker" in node:
            yield f"available_node_types.{name}.docker", node["docker"]


def misspelled(key: str) -> str:
    """With two letters swapped, or one more where that changes nothing."""
    middle = len(key) // 2
    swapped = key[: middle - 1] + key[middle] + key[middle - 1] + key[middle + 1 :]
    return swapped if swapped != key else key + "x"


def all_misspellings(
    path: Path, known: Callable[[Any], Iterator[tuple[str, dict[str, Any]]]]
) -> Iterator[tuple[str, Any]]:
    """The document with one key misspelled, for each key, and where it is."""
    for number, (place, section) in enumerate(known(load(path))):
        for key in section:
            data = load(path)
            _, found = list(known(data))[number]
            found[misspelled(key)] = found.pop(key)
            yield f"{place}.{misspelled(key)}".lstrip("."), data


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
        "max_worker: unknown key, meant is max_workers? Known here: auth, available_node_types, ",
        "idle_timeout_minute: unknown key, meant is idle_timeout_minutes? Known here: auth, ",
        "provider.regoin: unknown key, meant is region? Known here: availability_zone, aws_credentials, ",
        "provider: 'region' is a required property.",
    ):
        assert any(problem.startswith(wanted) for problem in found), found


@pytest.mark.parametrize("kind", ["aws", "gcp"])
def test_the_providers_keys_are_those_of_rays_own_files(kind: str) -> None:
    import ray.autoscaler

    own = yaml.safe_load((Path(ray.autoscaler.__file__).parent / kind / "defaults.yaml").read_text(encoding="utf-8"))
    assert set(own["provider"]) <= {"type", *REQUIRED[kind], *OPTIONAL[kind], *OF_ALL}


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
        (AWS, "docker.run_options.0", "--env=RAY_AUTH_TOKEN=abc", "a token in the file"),
        (AWS, f"{GPU}.max_workers", 5, "found 5, with min_workers 0 and 4 as the file's max_workers"),
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
    assert problem.startswith("(the whole file): Ray refuses it: ")


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
        data["docker"]["run_options"] = []
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
    assert found == [f"{at}: {cidr} lets in the world. Give your own address, like 203.0.113.7/32."]


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "a: [", "a: 1\n---\na: 1\n"])
def test_what_is_no_cluster_at_all_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"cluster\.yaml: "):
        validate_cluster_file(tmp_path / "cluster.yaml")


def named_sections(schema: dict[str, Any], node: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The mappings of a document whose keys its schema names, and their places."""
    if isinstance(node, list):
        for number, item in enumerate(node):
            yield from named_sections(schema.get("items", {}), item, f"{place}.{number}")
    elif isinstance(node, dict) and "properties" in schema:
        if schema["properties"]:
            yield place.lstrip("."), node
        for key, value in node.items():
            yield from named_sections(schema["properties"].get(key, {}), value, f"{place}.{key}")


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_kuberays_schema_finds_a_misspelled_key_wherever_it_is(path: Path) -> None:
    schema = CRDS[load(path)["kind"]]
    tried = 0
    for place, data in all_misspellings(path, lambda data: named_sections(schema, data)):
        found = list(schema_problems(data, schema))
        assert any(problem.startswith(f"{place}: unknown key") for problem in found), f"{place}: {found}"
        tried += 1
    assert tried >= 80


CONTAINER, GROUP = "headGroupSpec.template.spec.containers.0", "workerGroupSpecs.0"
IMAGE = "ghcr.io/your-org/tuneyard-train:latest"


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
@pytest.mark.parametrize(
    ("place", "value", "wanted"),
    [
        ("rayVersion", "2.59.0", f"{CONTAINER}.image: the tag of ghcr.io/your-org/tuneyard-"),
        ("rayVersion", "latest", "rayVersion: found latest"),
        (f"{CONTAINER}.image", IMAGE, f"{CONTAINER}.image: the tag of {IMAGE} does not name rayVersion 2."),
        (f"{CONTAINER}.image", "host:2.60.0/train", f"{CONTAINER}.image: the tag of host:2.60.0/train does not"),
        (f"{CONTAINER}.image", "train:ray12.60.0", f"{CONTAINER}.image: the tag of train:ray12.60.0 does not"),
        ("authOptions", {"mode": "disabled"}, "authOptions: found {'mode': 'disabled'}, expected mode: token"),
        ("authOptions", {"mode": "token"}, "authOptions: found {'mode': 'token'}, expected mode: token and a sec"),
        (f"{CONTAINER}.env.0", {"name": "RAY_AUTH_MODE", "value": "no"}, f"{CONTAINER}.env: RAY_AUTH_MODE 'no' wins"),
        (f"{CONTAINER}.env.0", {"name": "RAY_AUTH_TOKEN", "value": "a"}, f"{CONTAINER}.env.0.value: a token in the"),
        ("headGroupSpec.serviceType", "LoadBalancer", "headGroupSpec.serviceType: LoadBalancer opens it"),
        ("headGroupSpec.headService", {"spec": {"type": "NodePort"}}, "headGroupSpec.headService.spec.type: NodePort"),
        ("headGroupSpec.enableIngress", True, "headGroupSpec.enableIngress: True opens it"),
        (f"{GROUP}.template.spec.hostNetwork", True, f"{GROUP}.template.spec.hostNetwork: True opens it"),
        (f"{GROUP}.minReplicas", "none", f"{GROUP}.minReplicas: 'none' is not of type 'integer'"),
    ],
)
def test_an_unsafe_manifest_is_found(path: Path, place: str, value: object, wanted: str, tmp_path: Path) -> None:
    data = load(path)
    at, name = CLUSTER_AT[data["kind"]], f"{data['kind']}/{data['metadata']['name']}"
    found = problems_of(path, put(f"{at}.{place}", value), tmp_path)
    assert any(problem.startswith(f"{name}: {at}.{wanted}") for problem in found), found


@pytest.mark.parametrize("kind", ["Secret", "PersistentVolumeClaim", "Pod", None])
def test_other_kinds_are_refused(kind: str | None, tmp_path: Path) -> None:
    (problem,) = problems_of(MANIFESTS[0], put("kind", kind), tmp_path)
    assert problem.startswith(f"{kind}/tuneyard-train: kind: found {kind!r}. Known here: RayCluster, ")


@pytest.mark.parametrize("text", ["- a", "applications: [", "text"])
def test_text_that_is_no_mapping_is_refused_inside_of_a_manifest(text: str, tmp_path: Path) -> None:
    (path,) = (path for path in MANIFESTS if load(path)["kind"] == "RayService")
    (problem,) = problems_of(path, put("spec.serveConfigV2", text), tmp_path)
    assert problem.startswith("RayService/tuneyard: spec.serveConfigV2: ")


def test_crds_are_read_closed_and_all_of_them_are_needed(tmp_path: Path) -> None:
    fields = {
        "a": {"type": "integer", "description": "long"},
        "free": {"type": "object", "properties": {}, "x-kubernetes-preserve-unknown-fields": True},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
        "properties": {"type": "array", "items": {"type": "object", "properties": {"b": {"type": "string"}}}},
    }
    for kind in CLUSTER_AT:
        version = {"name": "v1", "schema": {"openAPIV3Schema": {"type": "object", "properties": fields}}}
        crd = {"spec": {"names": {"kind": kind}, "versions": [{"name": "v1alpha1"}, version]}}
        (tmp_path / f"{kind}.yaml").write_text(yaml.safe_dump(crd), encoding="utf-8")
    crds = load_crds(tmp_path)
    assert set(crds) == set(CLUSTER_AT)
    good = {"a": 1, "free": {"x": 1}, "map": {"y": "z"}, "properties": [{"b": "c"}]}
    bad = {"c": 1, "properties": [{"d": 1}]}
    assert list(schema_problems(good, crds["RayJob"])) == []
    assert list(schema_problems(bad, crds["RayJob"])) == [
        "c: unknown key. Known here: a, free, map, properties.",
        "properties.0.d: unknown key. Known here: b.",
    ]
    assert "description" not in json.dumps(crds)
    (tmp_path / "RayJob.yaml").unlink()
    with pytest.raises(ConfigError, match="no CRD of RayJob"):
        load_crds(tmp_path)
