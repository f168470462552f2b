"""Whether the connected cluster can ever place the work; Ray itself leaves impossible work pending without an error."""

from __future__ import annotations

from collections.abc import Sequence

from tuneyard.core.errors import ClusterError
from tuneyard.core.resources import ResourceRequest, describe_shortages

WORKER_FIELDS = (
    "workers.num_workers, workers.cpus_per_worker, workers.memory_gib_per_worker, workers.use_gpu, "
    "workers.resources_per_worker"
)
WORKER_WAIT_FIELD = "workers.wait_for_nodes"
"""Fields of a finetuning config, for check_placement and placement_error."""


def check_placement(
    requests: Sequence[ResourceRequest], what: str, *, wait_for_nodes: bool, fields: str, wait_field: str
) -> str:
    """Returns what the connected cluster's nodes are short of, for messages; empty when the requests fit now.

    Raises ClusterError for a shortage, unless `wait_for_nodes` says that nodes are about to be added. `what` names the
    work at the start of the error's sentence; `fields` and `wait_field` name the config's fields in its fix.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    shortages = describe_shortages(requests, nodes)
    if shortages and not wait_for_nodes:
        raise placement_error(what, shortages, fields, wait_field)
    return shortages


def placement_error(what: str, shortages: str, fields: str, wait_field: str) -> ClusterError:
    """Returns the error for work that the cluster cannot place; see check_placement for the arguments."""
    return ClusterError(
        f"{what} can never be placed on this Ray cluster as it is: {shortages}. Request less ({fields}), or add nodes. "
        f"If nodes are about to join, or an autoscaler adds them: --set {wait_field}=true."
    )
