"""KubeRay's manifests, checked without Kubernetes: typos, versions, and whatever would open it to the world."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tuneyard.core.errors import ConfigError
from tuneyard.doctor.cluster_file import exposed, read_documents, schema_problems, value_at

CLUSTER_AT = {"RayCluster": "spec", "RayJob": "spec.rayClusterSpec", "RayService": "spec.rayClusterConfig"}
HELPERS = ("ConfigMap", "NetworkPolicy", "Service", "ServiceAccount")
"""Kinds that may stand beside. No Secret: its value would be in the file. No volume claim: `kubectl delete -f` would
take the models with it."""


def validate_kuberay_file(path: Path, crds: Mapping[str, Any] | None = None) -> list[str]:
    """What is wrong with a manifest, each with its place and the fix; empty: nothing.

    `crds`: the schemas of KubeRay's kinds, see load_crds; None: only our own rules are checked. Raises ConfigError for
    a file that is not there or no YAML mapping.
    """
    problems = []
    for document in read_documents(path):
        kind = document.get("kind")
        if kind in CLUSTER_AT:
            found = [*_cluster_problems(document, CLUSTER_AT[kind]), *_embedded_problems(document), *exposed(document)]
            found += schema_problems(document, crds[kind]) if crds is not None else []
        elif kind in HELPERS:
            found = [*exposed(document)]
        else:
            found = [f"kind: found {kind!r}. Known here: {', '.join([*CLUSTER_AT, *HELPERS])}."]
        problems += [f"{kind}/{value_at(document, 'metadata.name')}: {problem}" for problem in found]
    return problems


def load_crds(folder: Path) -> dict[str, Any]:
    """Kind -> JSON schema, of the CustomResourceDefinitions in a folder; only keys that they name pass it.

    Raises ConfigError when one of KubeRay's kinds is missing.
    """
    found = {}
    for file in sorted(folder.glob("*.yaml")):
        crd = yaml.safe_load(file.read_text(encoding="utf-8"))["spec"]
        for version in crd["versions"]:
            if version["name"] == "v1":
                found[crd["names"]["kind"]] = _closed(version["schema"]["openAPIV3Schema"])
    missing = sorted(set(CLUSTER_AT) - set(found))
    if missing:
        raise ConfigError(
            f"{folder}: no CRD of {', '.join(missing)}. KubeRay has them in ray-operator/config/crd/bases."
        )
    return found


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """A structural schema with unknown keys refused, which Kubernetes would drop without a word."""
    inner = ("description", "properties", "items", "additionalProperties")
    closed = {key: value for key, value in schema.items() if key not in inner}
    if "properties" in schema:
        closed["properties"] = {name: _closed(field) for name, field in schema["properties"].items()}
        closed["additionalProperties"] = schema.get("x-kubernetes-preserve-unknown-fields", False)
    for key in ("items", "additionalProperties"):
        if key in schema:
            closed[key] = _closed(schema[key]) if isinstance(schema[key], dict) else schema[key]
    return closed


def _cluster_problems(document: Mapping[str, Any], at: str) -> Iterator[str]:
    if document.get("apiVersion") != "ray.io/v1":
        yield f"apiVersion: found {document.get('apiVersion')!r}, expected ray.io/v1."
    cluster = value_at(document, at)
    version = str(value_at(cluster, "rayVersion"))
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        yield f"{at}.rayVersion: found {version}, expected that of the images, like 2.60.0."
    if value_at(cluster, "authOptions.mode") != "token" or not value_at(cluster, "authOptions.secretName"):
        yield (
            f"{at}.authOptions: found {value_at(cluster, 'authOptions')}, expected mode: token and a secretName: "
            "without a token, who reaches Ray runs what they like."
        )
    pods = {"headGroupSpec": value_at(cluster, "headGroupSpec")}
    pods |= {f"workerGroupSpecs.{n}": group for n, group in enumerate(value_at(cluster, "workerGroupSpecs") or [])}
    for place, pod in pods.items():
        containers = value_at(pod, "template.spec.containers") or []
        if not containers:
            yield f"{at}.{place}.template.spec.containers: missing."
        for n, container in enumerate(containers):
            yield from _container_problems(container, f"{at}.{place}.template.spec.containers.{n}", version)


def _container_problems(container: Any, place: str, version: str) -> Iterator[str]:
    image = str(value_at(container, "image"))
    if not re.search(rf":[^/]*(?<![\d.]){re.escape(version)}(?![\d.])[^/]*$", image):
        yield f"{place}.image: the tag of {image} does not name rayVersion {version}. Pin the image that has this Ray."
    for entry in value_at(container, "env") or []:
        if value_at(entry, "name") == "RAY_AUTH_MODE" and value_at(entry, "value") != "token":
            yield f"{place}.env: RAY_AUTH_MODE {value_at(entry, 'value')!r} wins over authOptions. Leave it out."


def _embedded_problems(document: Mapping[str, Any]) -> Iterator[str]:
    """Of the YAML that stands in a manifest as text, where no schema sees it."""
    for place in ("spec.runtimeEnvYAML", "spec.serveConfigV2"):
        text = value_at(document, place)
        if text is None:
            continue
        try:
            found = yaml.safe_load(text)
        except yaml.YAMLError as e:
            yield f"{place}: no YAML: {e}"
            continue
        if not isinstance(found, dict):
            yield f"{place}: expected a mapping of fields, found a {type(found).__name__}."
