"""Checks of KubeRay manifests without Kubernetes: misspelled keys, versions, exposure, what stops pods."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tuneyard.core.errors import ConfigError
from tuneyard.doctor.cluster_files.document_checks import exposure_problems, schema_problems
from tuneyard.doctor.cluster_files.kuberay_fields import DOCUMENTS, EMBEDDED_YAML, without_nulls
from tuneyard.doctor.cluster_files.planned_work import PlannedWork, named_work
from tuneyard.doctor.cluster_files.pod_checks import cluster_pod_problems, pod_problems
from tuneyard.doctor.cluster_files.work_checks import custom_resources, kuberay_node_types, work_problems
from tuneyard.doctor.cluster_files.yaml_documents import items_at, parse_documents, read_documents, value_at

CLUSTER_SPEC_PATHS = {"RayCluster": "spec", "RayJob": "spec.rayClusterSpec", "RayService": "spec.rayClusterConfig"}
"""Where each of KubeRay's kinds holds its Ray cluster."""

POD_PATHS = {"Job": "spec.template", "StatefulSet": "spec.template"}
"""Where other kinds hold a pod's template."""

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Of the CRDs, which have 3 MB: the loader in C takes a second, the one in Python half a minute."""

OTHER_KINDS = ("ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "PodMonitor", "Service", "ServiceAccount")
"""Kinds that may stand beside them. A Secret would hold its value in the file. A PersistentVolumeClaim would be deleted
by `kubectl delete -f`, with the models in it."""


def validate_kuberay_file(
    path: Path, crds: Mapping[str, Any] | None = None, work: Sequence[PlannedWork] = ()
) -> list[str]:
    """Returns the problems of a manifest, each with its place and its fix; empty if there is none.

    `work` is what the cluster must be able to hold, beside what a RayJob or a RayService names itself. `crds` are the
    schemas that load_crds returns; None checks our own rules only. Raises ConfigError for a file that is missing or not
    YAML mappings, and for a duplicate key.
    """
    problems = []
    for document in read_documents(path):
        kind, name = document.get("kind"), value_at(document, "metadata.name")
        if kind not in (*CLUSTER_SPEC_PATHS, *POD_PATHS, *OTHER_KINDS):
            known = ", ".join([*CLUSTER_SPEC_PATHS, *POD_PATHS, *OTHER_KINDS])
            problems.append(f"{kind}/{name}: kind: found {kind!r}. Known here: {known}.")
            continue
        # The fields that the other checks read must have their types.
        has_types = not any(schema_problems(without_nulls(document), DOCUMENTS.get(kind, {})))
        schema = crds[kind] if crds is not None and kind in crds else {} if has_types else DOCUMENTS[kind]
        of_document = [*exposure_problems(document), *schema_problems(without_nulls(document), schema)]
        if has_types and kind in CLUSTER_SPEC_PATHS:
            place = CLUSTER_SPEC_PATHS[kind]
            of_document += [*_cluster_problems(document, place), *_embedded_yaml_problems(document)]
            if not of_document:
                cluster = value_at(document, place)
                of_document += cluster_pod_problems(cluster, place)
                of_document += _work_problems(document, cluster, place, path, work)
        elif has_types and kind in POD_PATHS:
            of_document += pod_problems(value_at(document, POD_PATHS[kind]), POD_PATHS[kind])
        problems += [f"{kind}/{name}: {problem}" for problem in of_document]
    return problems


def _work_problems(
    document: dict[str, Any], cluster: Any, place: str, path: Path, work: Sequence[PlannedWork]
) -> Iterator[str]:
    try:
        named = list(named_work(document, path))
    except ConfigError as e:
        named = []
        yield str(e)
    yield from work_problems(kuberay_node_types(cluster, place), [*work, *named])


def load_crds(folder: Path) -> dict[str, Any]:
    """Returns kind -> JSON schema of the CustomResourceDefinitions in a folder. The schemas reject unknown keys.

    Raises ConfigError when one of KubeRay's kinds is missing.
    """
    schemas = {}
    for file in sorted(folder.glob("*.yaml")):
        try:
            crd = yaml.load(file.read_text(encoding="utf-8"), Loader=LOADER)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
            raise ConfigError(f"{file}: cannot be read as YAML: {e}") from e
        # The folder also holds a kustomization.yaml, of another kind.
        kind = value_at(crd, "spec.names.kind")
        for version in items_at(crd, "spec.versions"):
            schema = value_at(version, "schema.openAPIV3Schema")
            if kind in CLUSTER_SPEC_PATHS and value_at(version, "name") == "v1" and schema is not None:
                schemas[kind] = _reject_unknown_keys(schema)
    missing = sorted(set(CLUSTER_SPEC_PATHS) - set(schemas))
    if missing:
        raise ConfigError(
            f"{folder}: no CRD of {', '.join(missing)}. In KubeRay's repository they are in "
            "ray-operator/config/crd/bases."
        )
    return schemas


def _reject_unknown_keys(schema: dict[str, Any]) -> dict[str, Any]:
    """Returns a structural schema in which unknown keys are violations. Kubernetes drops them silently."""
    nested = ("description", "properties", "items", "additionalProperties")
    strict = {key: value for key, value in schema.items() if key not in nested}
    if "properties" in schema:
        strict["properties"] = {name: _reject_unknown_keys(field) for name, field in schema["properties"].items()}
        strict["additionalProperties"] = schema.get("x-kubernetes-preserve-unknown-fields", False)
    for key in ("items", "additionalProperties"):
        if key in schema:
            strict[key] = _reject_unknown_keys(schema[key]) if isinstance(schema[key], dict) else schema[key]
    return strict


def _cluster_problems(document: Mapping[str, Any], spec_path: str) -> Iterator[str]:
    if document.get("apiVersion") != "ray.io/v1":
        yield f"apiVersion: found {document.get('apiVersion')!r}, expected ray.io/v1."
    cluster = value_at(document, spec_path)
    version = str(value_at(cluster, "rayVersion"))
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        yield f"{spec_path}.rayVersion: found {version}, expected the images' version of Ray, like 2.60.0."
    if value_at(cluster, "authOptions.mode") != "token" or not value_at(cluster, "authOptions.secretName"):
        yield (
            f"{spec_path}.authOptions: found {value_at(cluster, 'authOptions')}, expected mode: token and a "
            "secretName. Without a token, anyone who reaches Ray can run code."
        )
    pods = {"headGroupSpec": value_at(cluster, "headGroupSpec")}
    pods |= {f"workerGroupSpecs.{n}": group for n, group in enumerate(items_at(cluster, "workerGroupSpecs"))}
    for place, pod in pods.items():
        yield from _group_problems(pod, f"{spec_path}.{place}")
        containers = items_at(pod, "template.spec.containers")
        if not containers:
            yield f"{spec_path}.{place}.template.spec.containers: missing."
        for n, container in enumerate(containers):
            yield from _container_problems(container, f"{spec_path}.{place}.template.spec.containers.{n}", version)


def _group_problems(group: Any, place: str) -> Iterator[str]:
    low, high = (value_at(group, name) for name in ("minReplicas", "maxReplicas"))
    if low is not None and high is not None and low > high:
        yield f"{place}.minReplicas: found {low}, above maxReplicas, {high}. KubeRay refuses the cluster then."
    text = value_at(group, "rayStartParams.resources")
    if text is not None and custom_resources(text) is None:
        yield (
            f"{place}.rayStartParams.resources: found {text!r}. Ray's autoscaler reads JSON in quotes here, and ends "
            'otherwise. Write it like \'"{\\"train\\": 8}"\'.'
        )


def _container_problems(container: Any, place: str, version: str) -> Iterator[str]:
    image = str(value_at(container, "image"))
    if not re.search(rf":[^/]*(?<![\d.]){re.escape(version)}(?![\d.])[^/]*$", image):
        yield (
            f"{place}.image: the tag of {image} does not name rayVersion {version}. Pin an image with this version of "
            "Ray."
        )
    for entry in value_at(container, "env") or []:
        if value_at(entry, "name") == "RAY_AUTH_MODE" and value_at(entry, "value") != "token":
            yield f"{place}.env: RAY_AUTH_MODE {value_at(entry, 'value')!r} overrides authOptions. Remove it."


def _embedded_yaml_problems(document: Mapping[str, Any]) -> Iterator[str]:
    for place, schema in EMBEDDED_YAML.items():
        text = value_at(document, place)
        if text is None:
            continue
        try:
            documents = parse_documents(text, place)
        except ConfigError as e:
            yield str(e)
            continue
        if len(documents) != 1 or not isinstance(documents[0], dict):
            found = type(documents[0]).__name__ if len(documents) == 1 else f"{len(documents)} documents"
            yield f"{place}: expected one mapping of fields, found {found}."
            continue
        yield from (f"{place}.{problem}" for problem in schema_problems(without_nulls(documents[0]), schema))
