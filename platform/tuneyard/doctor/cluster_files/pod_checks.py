"""Checks of a Ray cluster's pods on Kubernetes: what would keep them from starting, or end them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tuneyard.doctor.cluster_files.quantities import quantity
from tuneyard.doctor.cluster_files.yaml_documents import items_at, value_at

KEEP = {
    "karpenter.sh/do-not-disrupt": "true",
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
}
"""Annotations that keep Karpenter's consolidation and the cluster autoscaler from evicting a pod."""


def cluster_pod_problems(cluster: Any, place: str) -> Iterator[str]:
    """Yields the problems of the pods of a Ray cluster's spec, which stands at `place`."""
    groups = {"headGroupSpec": value_at(cluster, "headGroupSpec")}
    groups |= {f"workerGroupSpecs.{n}": group for n, group in enumerate(items_at(cluster, "workerGroupSpecs"))}
    for name, group in groups.items():
        yield from pod_problems(value_at(group, "template"), f"{place}.{name}.template")
        ray = next(iter(items_at(group, "template.spec.containers")), None)
        names = {value_at(entry, "name") for entry in items_at(ray, "env")}
        if "TUNEYARD_HOME" not in names and value_at(ray, "envFrom") is None:
            yield (
                f"{place}.{name}.template.spec.containers.0.env: no TUNEYARD_HOME. The pod would keep bases, runs and "
                "models in itself, where other pods do not see them. Add it, with the path of a mounted volume."
            )
    sidecar = value_at(cluster, "autoscalerOptions.securityContext")
    if value_at(cluster, "enableInTreeAutoscaling") is True and not _is_restricted(sidecar):
        yield (
            f"{place}.autoscalerOptions.securityContext: found {sidecar}. A namespace with the Pod Security level "
            "`restricted` rejects the head, which holds the autoscaler. Set allowPrivilegeEscalation: false and "
            "capabilities: {drop: [ALL]}."
        )


def pod_problems(template: Any, place: str) -> Iterator[str]:
    """Yields the problems of a pod's template."""
    annotations = value_at(template, "metadata.annotations") or {}
    if missing := [f'{name}: "{value}"' for name, value in KEEP.items() if annotations.get(name) != value]:
        yield (
            f"{place}.metadata.annotations: the pod can be evicted when nodes are consolidated, and with it Ray's "
            f"state or the work. Add {', '.join(missing)}."
        )
    spec = value_at(template, "spec")
    if value_at(spec, "imagePullSecrets") is None and not value_at(spec, "serviceAccountName"):
        yield (
            f"{place}.spec.imagePullSecrets: missing. Private images cannot be pulled then. Name a Secret of type "
            "docker-registry; [] says that the images are public."
        )
    for number, container in enumerate(items_at(spec, "containers")):
        yield from _container_problems(container, spec, f"{place}.spec.containers.{number}")


def _container_problems(container: Any, spec: Any, place: str) -> Iterator[str]:
    if not _is_restricted(value_at(container, "securityContext")):
        yield (
            f"{place}.securityContext: a namespace with the Pod Security level `restricted` rejects the pod. Set "
            "allowPrivilegeEscalation: false and capabilities: {drop: [ALL]}."
        )
    yield from _resource_problems(container, place)
    claims = {value_at(v, "name") for v in items_at(spec, "volumes") if value_at(v, "persistentVolumeClaim")}
    mounts = [mount for mount in items_at(container, "volumeMounts") if value_at(mount, "name") in claims]
    for mount in mounts:
        if sub_path := value_at(mount, "subPath"):
            yield (
                f"{place}.volumeMounts: the kubelet creates the subPath {sub_path} as root where it is missing, and "
                "the pod's user then cannot write beside it. Mount the whole volume once, at TUNEYARD_HOME."
            )
    for entry in items_at(container, "env"):
        home = str(value_at(entry, "value") or "")
        if value_at(entry, "name") == "TUNEYARD_HOME" and not any(
            f"{home}/".startswith(f"{str(value_at(mount, 'mountPath')).rstrip('/')}/") for mount in mounts
        ):
            yield (
                f"{place}.volumeMounts: no volume of a PersistentVolumeClaim is mounted at TUNEYARD_HOME, {home}. Each "
                "pod would have a folder of its own there, and lose it."
            )


def _resource_problems(container: Any, place: str) -> Iterator[str]:
    requests, limits = (value_at(container, f"resources.{kind}") or {} for kind in ("requests", "limits"))
    # Devices, such as nvidia.com/gpu (kubernetes.io/docs/concepts/configuration/manage-resources-containers).
    for name in sorted(name for name in {*requests, *limits} if "/" in name):
        limit, request = limits.get(name), requests.get(name, limits.get(name))
        if limit is None or quantity(request) != quantity(limit):
            yield (
                f"{place}.resources: {name} has the limit {limit} and the request {request}. Kubernetes refuses the "
                "pod unless both are the same. Set both."
            )


def _is_restricted(context: Any) -> bool:
    return value_at(context, "allowPrivilegeEscalation") is False and value_at(context, "capabilities.drop") == ["ALL"]
