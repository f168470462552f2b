"""Refuses a run whose workers or export need more main memory than any node has, with changes that make it fit."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tuneyard.configs.workers import WorkersConfig
from tuneyard.core.errors import ClusterError
from tuneyard.core.resources import Resources, process_capacity
from tuneyard.core.wording import count_of
from tuneyard.planning.training.host_memory import HostMemory
from tuneyard.planning.training.memory_plan import in_gib

MAX_WAYS_OUT = 3


def check_node_memory(workers: WorkersConfig, memory: HostMemory, nodes: Sequence[Resources]) -> None:
    """Raises ClusterError if each node that can hold a worker has too little main memory for its share of the run.

    `nodes` holds Ray's resources of each node: its `memory` and `object_store_memory` together are what was free when
    Ray started there. Nodes that are yet to be added are not known, so nothing is said of them.
    """
    request = workers.resource_request
    counts = {
        index: min(request.count, capacity)
        for index, node in enumerate(nodes)
        if (capacity := process_capacity(request.per_process, node)) > 0
    }
    if not counts:
        return
    available = {index: nodes[index].get("memory", 0) + nodes[index].get("object_store_memory", 0) for index in counts}
    largest = max(available.values())
    if memory.export > largest:
        raise ClusterError(
            f"The export of the run takes about {in_gib(memory.export)} of main memory in one process, but the largest "
            f"node that can hold a worker has {in_gib(largest)}. Add a node with {in_gib(memory.export)}, or finetune "
            "a smaller base."
        )
    share = math.ceil(request.count / len(counts))
    if workers.spread:
        counts = {index: min(count, share) for index, count in counts.items()}
    if any(memory.of_workers(counts[index]) <= available[index] for index in counts):
        return
    index = min(counts, key=lambda i: memory.of_workers(counts[i]) - available[i])
    ways = _ways_out(workers, memory, counts[index], share, available[index])
    raise ClusterError(
        f"{count_of(counts[index], 'worker')} on one node take about {in_gib(memory.of_workers(counts[index]))} of "
        f"main memory to load and train the model, but the node has {in_gib(available[index])}. What would fit: "
        f"{'; or '.join(ways)}."
    )


def describe_host(memory: HostMemory) -> str:
    """The main memory of a run, in words."""
    return (
        f"Main memory: {in_gib(memory.first_worker)} for worker 0, {in_gib(memory.worker)} for each other one; "
        f"{in_gib(memory.export)} for the export"
    )


def _ways_out(workers: WorkersConfig, memory: HostMemory, count: int, share: int, available: float) -> list[str]:
    """Changes that make the workers fit a node, cheapest first."""
    ways = []
    sharded = memory.first_worker + (count - 1) * memory.sharded_worker
    if sharded < memory.of_workers(count) and sharded <= available:
        ways.append(f"training.sharding: fsdp2 ({in_gib(sharded)})")
    if not workers.spread and share < count and memory.of_workers(share) <= available:
        ways.append(f"workers.spread: true ({in_gib(memory.of_workers(share))} on each node)")
    if memory.first_worker <= available:
        most = 1 + int((available - memory.first_worker) // memory.worker)
        ways.append(f"workers.num_workers: {most} ({in_gib(memory.of_workers(most))})")
    return [*ways, f"nodes with {in_gib(memory.of_workers(count))}"][:MAX_WAYS_OUT]
