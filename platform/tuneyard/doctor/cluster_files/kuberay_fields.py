"""JSON schemas of those fields of Kubernetes' and KubeRay's objects that the checks read.

They know the types only, and allow other fields. KubeRay's CRDs, which are not part of Tuneyard, know every field.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
QUANTITY: Schema = {
    "type": ["string", "number"],
    "pattern": r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$",
    "description": "a quantity of Kubernetes, such as 8, 500m or 1200Gi",
}
"""kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity"""


def _list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _map_of(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def _fields(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


def _at(dotted: str, schema: Schema) -> Schema:
    """The schema of a document that holds `schema` at a dotted path."""
    for key in reversed(dotted.split(".")):
        schema = _fields(**{key: schema})
    return schema


SECURITY = _fields(capabilities=_fields(drop=_list_of(TEXT)))
CONTAINER = _fields(
    name=TEXT,
    image=TEXT,
    env=_list_of(_fields(name=TEXT, value=TEXT)),
    securityContext=SECURITY,
    resources=_fields(requests=_map_of(QUANTITY), limits=_map_of(QUANTITY)),
    volumeMounts=_list_of(_fields(name=TEXT, mountPath=TEXT, subPath=TEXT)),
)
POD = _fields(
    metadata=_fields(annotations=_map_of(TEXT), labels=_map_of(TEXT)),
    spec=_fields(
        serviceAccountName=TEXT,
        imagePullSecrets=_list_of(_fields(name=TEXT)),
        volumes=_list_of(_fields(name=TEXT, persistentVolumeClaim=_fields(claimName=TEXT))),
        containers=_list_of(CONTAINER),
    ),
)
GROUP = {"rayStartParams": _map_of(TEXT), "template": POD}
WORKERS = _fields(
    **GROUP,
    groupName=TEXT,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    numOfHosts=COUNT,
    resources=_map_of(QUANTITY),
)
CLUSTER = _fields(
    rayVersion=TEXT,
    authOptions=_fields(mode=TEXT, secretName=TEXT),
    autoscalerOptions=_fields(securityContext=SECURITY),
    headGroupSpec=_fields(**GROUP),
    workerGroupSpecs=_list_of(WORKERS),
)

DOCUMENTS: dict[str, Schema] = {
    "RayCluster": _at("spec", CLUSTER),
    "RayJob": _at("spec", _fields(rayClusterSpec=CLUSTER, entrypoint=TEXT, runtimeEnvYAML=TEXT)),
    "RayService": _at("spec", _fields(rayClusterConfig=CLUSTER, serveConfigV2=TEXT)),
    "Job": _at("spec.template", POD),
    "StatefulSet": _at("spec.template", POD),
}
"""The schema of each kind of which the checks read more than its exposure."""

EMBEDDED_YAML: dict[str, Schema] = {
    "spec.runtimeEnvYAML": _fields(working_dir=TEXT, env_vars=_map_of(TEXT)),
    "spec.serveConfigV2": _fields(
        applications=_list_of(_fields(name=TEXT, import_path=TEXT, args=_fields(config=TEXT))),
    ),
}
"""Schemas of the fields that hold YAML as text, which no schema of Kubernetes checks."""


def without_nulls(node: Any) -> Any:
    """Returns a copy of a document without the fields that are null, which Kubernetes drops."""
    if isinstance(node, dict):
        return {key: without_nulls(value) for key, value in node.items() if value is not None}
    return [without_nulls(value) for value in node] if isinstance(node, list) else node
