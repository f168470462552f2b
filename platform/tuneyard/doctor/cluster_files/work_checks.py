"""Whether the nodes that a cluster file lets the autoscaler start can hold the work that it is for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuneyard.core.resources import ACCELERATOR, GIB, ResourceRequest, describe_shortages
from tuneyard.doctor.cluster_files.planned_work import PlannedWork
from tuneyard.doctor.cluster_files.yaml_documents import value_at

UNKNOWN = 1e6
"""Amount of a resource that Ray finds out only when the node starts, so that it is never the shortage."""

SUFFIXES = {"m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
SUFFIXES |= {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
"""Suffixes of Kubernetes' quantities."""


@dataclass(frozen=True, slots=True)
class NodeType:
    """Nodes of one kind that an autoscaler may start."""

    place: str
    """Where the file defines it."""
    max_nodes: int
    resources: Mapping[str, float]
    memory_bytes: float | None = None
    """The limit of a node's main memory; None if the file does not say."""


def launcher_node_types(config: Mapping[str, Any]) -> list[NodeType]:
    """Returns the worker types of a launcher file that Ray's prepare_config has completed."""
    total = int(config["max_workers"])
    return [
        NodeType(
            f"available_node_types.{name}",
            min(int(node["max_workers"]), total),
            {"CPU": UNKNOWN, "GPU": UNKNOWN, "memory": UNKNOWN * GIB} | dict(node.get("resources") or {}),
        )
        for name, node in config["available_node_types"].items()
        if name != config["head_node_type"]
    ]


def kuberay_node_types(cluster: Any, place: str) -> list[NodeType]:
    """Returns the worker groups of a Ray cluster's spec, which stands at `place`. Call it for specs that are valid."""
    types = []
    for number, group in enumerate(value_at(cluster, "workerGroupSpecs") or []):
        container = (value_at(group, "template.spec.containers") or [{}])[0]
        asked, limits = (value_at(container, f"resources.{kind}") or {} for kind in ("requests", "limits"))
        amounts = {**asked, **limits}
        memory = quantity(amounts["memory"]) if "memory" in amounts else None
        resources = {
            "CPU": quantity(amounts.get("cpu", UNKNOWN)),
            "GPU": quantity(amounts.get("nvidia.com/gpu", 0)),
            "memory": UNKNOWN * GIB if memory is None else memory,
            **_custom_resources(group),
        }
        nodes = int(value_at(group, "maxReplicas") or 0) * int(value_at(group, "numOfHosts") or 1)
        types.append(NodeType(f"{place}.workerGroupSpecs.{number}", nodes, resources, memory))
    return types


def work_problems(types: Sequence[NodeType], work: Sequence[PlannedWork]) -> Iterator[str]:
    """Yields what keeps the work from running: too few or too small nodes, too little memory for the export."""
    nodes = [node.resources for node in types for _ in range(node.max_nodes)]
    known = {name for node in nodes for name in node}
    places = ", ".join(node.place for node in types)
    for one in work:
        requests = [_without_unknown_accelerators(request, known) for request in one.requests]
        if shortages := describe_shortages(requests, nodes):
            yield (
                f"{places}: even with every node that these maxima allow, {one.config} never starts: {shortages}. "
                "Raise max_workers or maxReplicas, add the resource to a type, or request less in the config."
            )
            continue
        for node in types:
            fits = any(not describe_shortages([ResourceRequest(1, r.per_process)], [node.resources]) for r in requests)
            if fits and node.memory_bytes is not None and node.memory_bytes < one.export_bytes:
                yield (
                    f"{node.place}: the memory limit of {node.memory_bytes / GIB:.0f} GiB is below the "
                    f"{one.export_bytes / GIB:.0f} GiB that the export of {one.config} takes, so the run fails after "
                    "its training. Raise resources.limits.memory."
                )


def quantity(value: Any) -> float:
    """Returns a Kubernetes quantity such as `96`, `500m` or `1200Gi` as a number; 0 for text that is none."""
    match = re.fullmatch(r"([\d.]+)([A-Za-z]*)", str(value).strip())
    return float(match[1]) * SUFFIXES.get(match[2], 0.0) if match else 0.0


def _custom_resources(group: Any) -> dict[str, float]:
    """The resources of a group's field `resources`, else of its rayStartParams, which hold quoted JSON."""
    own = value_at(group, "resources")
    if own:
        return {name: quantity(value) for name, value in own.items()}
    text = str(value_at(group, "rayStartParams.resources") or "")
    try:
        parsed = json.loads(text[1:-1].replace("\\", "") or "{}")
    except ValueError:
        return {}
    return {name: float(value) for name, value in parsed.items()} if isinstance(parsed, dict) else {}


def _without_unknown_accelerators(request: ResourceRequest, known: set[str]) -> ResourceRequest:
    """Ray detects the GPU's type when the node starts."""
    kept = {n: amount for n, amount in request.per_process.items() if n in known or not n.startswith(ACCELERATOR)}
    return ResourceRequest(request.count, kept)
