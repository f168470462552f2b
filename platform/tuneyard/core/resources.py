"""Whether a cluster's nodes are large enough for the requested resources.

Ray keeps a request pending forever, without an error, if no node can ever hold it. Check before you submit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

GIB = 2**30
"""Bytes in a GiB."""

ACCELERATOR = "accelerator_type:"
"""Prefix of Ray's resource for a GPU type. A node with GPUs of that type has 1 of it."""

Resources = Mapping[str, float]
"""Amounts by Ray's resource names; `memory` is in bytes."""


@dataclass(frozen=True, slots=True)
class ResourceRequest:
    """Resources for `count` equal processes; each process must fit on one node."""

    count: int
    per_process: Resources


def describe_shortages(requests: Sequence[ResourceRequest], nodes: Sequence[Resources]) -> str:
    """What the nodes lack to hold all requests at the same time, with the needed and available amounts; "" if nothing.

    Exact for one request. With several requests, "" is not a guarantee: it can miss that they do not fit side by
    side. It never reports a shortage for requests that fit.
    """
    shortages = _total_shortages(requests, nodes)
    shortages += [text for request in requests if not shortages and (text := _node_shortage(request, nodes))]
    return "; ".join(shortages)


def _total_shortages(requests: Sequence[ResourceRequest], nodes: Sequence[Resources]) -> list[str]:
    """Resources of which all nodes together have too little."""
    shortages = []
    for name in dict.fromkeys(name for request in requests for name in request.per_process):
        needed = sum(request.count * request.per_process.get(name, 0.0) for request in requests)
        available = sum(node.get(name, 0.0) for node in nodes)
        if available < needed * (1 - 1e-9):
            shortages.append(f"{name}: {_amount(name, needed)} needed, {_amount(name, available)} available")
    return shortages


def _node_shortage(request: ResourceRequest, nodes: Sequence[Resources]) -> str:
    """Why too few processes of the request fit on single nodes; "" if enough fit."""
    per_process = {name: amount for name, amount in request.per_process.items() if amount > 0}
    fitting = sum(process_capacity(per_process, node) for node in nodes)
    if not per_process or fitting >= request.count:
        return ""
    needed = ", ".join(f"{name} {_amount(name, amount)}" for name, amount in per_process.items())
    largest = ", ".join(f"{name} {_amount(name, max(n.get(name, 0) for n in nodes))}" for name in per_process)
    return (
        f"{request.count} × ({needed}), each on one node: {fitting} fit{'s' if fitting == 1 else ''}; "
        f"the largest amounts on any node: {largest}"
    )


def process_capacity(per_process: Resources, node: Resources) -> int:
    """How many processes fit on the node. `per_process` must request something."""
    amounts = {name: amount for name, amount in per_process.items() if amount > 0}
    return min(math.floor(node.get(name, 0) / amount + 1e-9) for name, amount in amounts.items())


def _amount(name: str, value: float) -> str:
    if name == "memory":
        return f"{value / GIB:.1f} GiB"
    if name.startswith(ACCELERATOR):
        return "yes" if value > 0 else "none"
    return f"{value:g}"
