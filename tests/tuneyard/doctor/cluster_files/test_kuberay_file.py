"""kuberay_file: the shipped manifests pass, and each mistake is reported.

kuberay_schemas.json.gz holds the schemas of KubeRay's CRDs (commit feeaf72fa, August 2026; those of release 1.7.0 are
the same), as load_crds returns them. From a checkout of KubeRay:

    import gzip, json, pathlib
    from tuneyard.doctor.cluster_files.kuberay_file import load_crds

    crds = load_crds(pathlib.Path("ray-operator/config/crd/bases"))
    text = json.dumps(crds, separators=(",", ":"))
    folder = pathlib.Path("tests/tuneyard/doctor/cluster_files")
    (folder / "kuberay_schemas.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tuneyard.doctor.cluster_files.changed_documents import (
    MANIFESTS,
    ROOT,
    Change,
    all_misspellings,
    changed_copy,
    load,
    put,
)
from tuneyard.core.errors import ConfigError
from tuneyard.doctor.cluster_files.document_checks import schema_problems
from tuneyard.doctor.cluster_files.kuberay_file import CLUSTER_SPEC_PATHS, load_crds, validate_kuberay_file
from tuneyard.doctor.cluster_files.yaml_documents import read_documents

CRDS: dict[str, Any] = json.loads(gzip.decompress(Path(__file__).with_name("kuberay_schemas.json.gz").read_bytes()))


def problems_of(path: Path, change: Change, folder: Path) -> list[str]:
    return validate_kuberay_file(changed_copy(path, change, folder), CRDS)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_shipped_manifest_is_good(path: Path) -> None:
    assert validate_kuberay_file(path, CRDS) == []
    assert validate_kuberay_file(path) == []


def test_a_manifest_of_each_kind_is_shipped() -> None:
    assert {read_documents(path)[0]["kind"] for path in MANIFESTS} == set(CLUSTER_SPEC_PATHS) == set(CRDS)


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
        (
            f"{CONTAINER}.env.0",
            {"name": "RAY_AUTH_MODE", "value": "no"},
            f"{CONTAINER}.env: RAY_AUTH_MODE 'no' overrides",
        ),
        (
            f"{CONTAINER}.env.0",
            {"name": "RAY_AUTH_TOKEN", "value": "a"},
            f"{CONTAINER}.env.0.value: the file holds a token",
        ),
        ("headGroupSpec.serviceType", "LoadBalancer", "headGroupSpec.serviceType: LoadBalancer opens a port"),
        ("headGroupSpec.headService", {"spec": {"type": "NodePort"}}, "headGroupSpec.headService.spec.type: NodePort"),
        ("headGroupSpec.enableIngress", True, "headGroupSpec.enableIngress: True opens a port"),
        (f"{GROUP}.template.spec.hostNetwork", True, f"{GROUP}.template.spec.hostNetwork: True opens a port"),
        (f"{GROUP}.minReplicas", "none", f"{GROUP}.minReplicas: 'none' is not of type 'integer'"),
    ],
)
def test_an_unsafe_manifest_is_found(path: Path, place: str, value: object, wanted: str, tmp_path: Path) -> None:
    data = load(path)
    at, name = CLUSTER_SPEC_PATHS[data["kind"]], f"{data['kind']}/{data['metadata']['name']}"
    found = problems_of(path, put(f"{at}.{place}", value), tmp_path)
    assert any(problem.startswith(f"{name}: {at}.{wanted}") for problem in found), found


@pytest.mark.parametrize("kind", ["Secret", "PersistentVolumeClaim", "Pod", None])
def test_other_kinds_are_refused(kind: str | None, tmp_path: Path) -> None:
    (problem,) = problems_of(MANIFESTS[0], put("kind", kind), tmp_path)
    assert problem.startswith(f"{kind}/tuneyard-train: kind: found {kind!r}. Known here: RayCluster, ")


@pytest.mark.parametrize("text", ["- a", "applications: [", "text", "a: 1\na: 2"])
def test_text_that_is_no_mapping_is_refused_inside_of_a_manifest(text: str, tmp_path: Path) -> None:
    (path,) = (path for path in MANIFESTS if load(path)["kind"] == "RayService")
    (problem,) = problems_of(path, put("spec.serveConfigV2", text), tmp_path)
    assert problem.startswith("RayService/tuneyard: spec.serveConfigV2")


def test_crds_are_read_closed_and_all_of_them_are_needed(tmp_path: Path) -> None:
    fields = {
        "a": {"type": "integer", "description": "long"},
        "free": {"type": "object", "properties": {}, "x-kubernetes-preserve-unknown-fields": True},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
        "properties": {"type": "array", "items": {"type": "object", "properties": {"b": {"type": "string"}}}},
    }
    for kind in CLUSTER_SPEC_PATHS:
        version = {"name": "v1", "schema": {"openAPIV3Schema": {"type": "object", "properties": fields}}}
        crd = {"spec": {"names": {"kind": kind}, "versions": [{"name": "v1alpha1"}, version]}}
        (tmp_path / f"{kind}.yaml").write_text(yaml.safe_dump(crd), encoding="utf-8")
    crds = load_crds(tmp_path)
    assert set(crds) == set(CLUSTER_SPEC_PATHS)
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
    (tmp_path / "kustomization.yaml").write_text("resources: [ray.yaml]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="no CRD of RayJob"):
        load_crds(tmp_path)
    (tmp_path / "broken.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"broken\.yaml: cannot be read as YAML"):
        load_crds(tmp_path)


WORKERS = "spec.rayClusterConfig.workerGroupSpecs.0"
WORKER = f"{WORKERS}.template.spec.containers.0"


@pytest.mark.parametrize(
    ("place", "value", "wanted"),
    [
        (f"{WORKER}.env.0.value", 630, f"{WORKER}.env.0.value: 630 is not of type 'string'. Put it in quotes."),
        (f"{WORKER}.env", {"A": "b"}, f"{WORKER}.env: {{'A': 'b'}} is not of type 'array'."),
        (
            f"{WORKER}.resources.limits.memory",
            "160GB",
            f"{WORKER}.resources.limits.memory: found '160GB', expected a quantity of Kubernetes, such as",
        ),
        (f"{WORKERS}.maxReplicas", "four", f"{WORKERS}.maxReplicas: 'four' is not of type 'integer'."),
        (f"{WORKERS}.maxReplicas", -1, f"{WORKERS}.maxReplicas: -1 is less than the minimum of 0."),
        (f"{WORKERS}.minReplicas", 9, f"{WORKERS}.minReplicas: found 9, above maxReplicas, 4."),
        (f"{WORKERS}.rayStartParams.resources", '{"serve": 1}', f"{WORKERS}.rayStartParams.resources: found '{{"),
        ("spec.rayClusterConfig.workerGroupSpecs", {"groupName": "g"}, "spec.rayClusterConfig.workerGroupSpecs: {'gr"),
        ("spec.serveConfigV2", "applications: 5", "spec.serveConfigV2.applications: 5 is not of type 'array'."),
        ("kind", ["RayService"], "kind: found ['RayService']. Known here:"),
    ],
)
def test_values_of_a_wrong_type_are_found_without_kuberays_schemas(
    place: str, value: object, wanted: str, tmp_path: Path
) -> None:
    path = changed_copy(ROOT / "platform/kuberay/rayservice.yaml", put(place, value), tmp_path)
    (problem,) = validate_kuberay_file(path)
    assert problem.partition(": ")[2].startswith(wanted)


@pytest.mark.parametrize(
    ("kind", "place", "value", "wanted"),
    [
        ("rayjob", "spec.entrypoint", "python -m jobs.finetune --config no.yaml", "the config no.yaml is neither in"),
        ("rayjob", "spec.entrypoint", "python -m jobs.finetune '", "a shell cannot read the command: No closing"),
        (
            "rayjob",
            "spec.entrypoint",
            "python -m jobs.finetune --config jobs/configs/gpt_oss_20b_lora.yaml --set workers.nodes=1",
            "1 problem\n  workers.nodes: unknown field",
        ),
        (
            "rayservice",
            "spec.serveConfigV2",
            "applications: [{args: {config: /opt/tuneyard/serve_apps/configs/no.yaml}}]",
            "the config /opt/tuneyard/serve_apps/configs/no.yaml is neither in",
        ),
    ],
)
def test_a_config_that_the_cluster_would_not_find_is_named(
    kind: str, place: str, value: str, wanted: str, tmp_path: Path
) -> None:
    (problem,) = validate_kuberay_file(
        changed_copy(ROOT / f"platform/kuberay/{kind}.yaml", put(place, value), tmp_path)
    )
    assert f": {place}" in problem
    assert wanted in problem


def test_a_config_on_the_clusters_volume_is_not_looked_for(tmp_path: Path) -> None:
    change = put("spec.entrypoint", "python -m jobs.finetune --config /mnt/tuneyard/acme.yaml")
    assert validate_kuberay_file(changed_copy(ROOT / "platform/kuberay/rayjob.yaml", change, tmp_path)) == []
