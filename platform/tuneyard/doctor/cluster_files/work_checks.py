"""Whether the nodes that a cluster file lets the autoscaler start can hold the work that it is for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuneyard.core.resources import ACCELERATOR, GIB, ResourceRequest, describe_shortages
from tuneyard.core.wording import count_of
from tuneyard.doctor.cluster_files.planned_work import PlannedWork
from tuneyard.doctor.cluster_files.quantities import quantity
from tuneyard.doctor.cluster_files.yaml_documents import items_at, value_at

UNKNOWN = 1e6
"""Amount of a resource that Ray finds out only when the node starts, so that it is never the shortage."""


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
    for number, group in enumerate(items_at(cluster, "workerGroupSpecs")):
        container = (items_at(group, "template.spec.containers") or [{}])[0]
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
    """Yields what keeps the work from running: too few or too small nodes, too little memory for the export.

    Also, without any work, node types whose GPUs and whose custom resource for them differ in number.
    """
    for node in types:
        yield from _surplus_problems(node)
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


def _surplus_problems(node: NodeType) -> Iterator[str]:
    """The shipped configs request one `train` or `serve` beside each GPU, so the smaller number decides."""
    gpus = node.resources.get("GPU", 0.0)
    for name in ("train", "serve"):
        amount = node.resources.get(name, 0.0)
        if gpus not in (0.0, UNKNOWN) and amount not in (0.0, gpus):
            yield (
                f"{node.place}: {name}: {amount:g} beside {count_of(int(gpus), 'GPU')}. The configs request one "
                f"of each for every worker or replica, so some stay unused. Set {name} to the number of GPUs."
            )


def custom_resources(text: str) -> dict[str, float] | None:
    """Returns the resources in the text of `rayStartParams.resources`, read as Ray's autoscaler reads it.

    None if it cannot read the text (ray.autoscaler._private.kuberay.autoscaling_config).
    """
    try:
        parsed = json.loads(text[1:-1].replace("\\", ""))
    except ValueError:
        return None
    is_valid = isinstance(parsed, dict) and all(isinstance(amount, int | float) for amount in parsed.values())
    return {name: float(amount) for name, amount in parsed.items()} if is_valid else None


def _custom_resources(group: Any) -> dict[str, float]:
    """The resources of a group's field `resources`, else of its rayStartParams, which hold quoted JSON."""
    own = value_at(group, "resources")
    if own:
        return {name: quantity(value) for name, value in own.items()}
    text = value_at(group, "rayStartParams.resources")
    return (custom_resources(text) if text is not None else None) or {}


def _without_unknown_accelerators(request: ResourceRequest, known: set[str]) -> ResourceRequest:
    """Ray detects the GPU's type when the node starts."""
    kept = {n: amount for n, amount in request.per_process.items() if n in known or not n.startswith(ACCELERATOR)}
    return ResourceRequest(request.count, kept)
