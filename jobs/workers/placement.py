"""Checks that the cluster's nodes can hold a run's workers and can read its files."""

from __future__ import annotations

from tuneyard.cluster.placement import WORKER_FIELDS, WORKER_WAIT_FIELD, check_placement
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.doctor.shared_paths import check_shared_paths, path_fingerprints
from tuneyard.planning.training.host_memory import HostMemory
from tuneyard.planning.training.node_memory import check_node_memory
from tuneyard.storage.location import child_location


def check_workers(config: FinetuneConfig, what: str) -> str:
    """Checks that the cluster can hold the config's workers; `what` names the work in the error.

    Returns an empty string, or with `workers.wait_for_nodes` what the nodes lack now. Raises ClusterError when the
    cluster can never hold the workers.
    """
    workers = config.workers
    return check_placement(
        [workers.resource_request],
        what,
        wait_for_nodes=workers.wait_for_nodes,
        fields=WORKER_FIELDS,
        wait_field=WORKER_WAIT_FIELD,
    )


def check_main_memory(config: FinetuneConfig, memory: HostMemory) -> None:
    """Raises ClusterError when no node that can hold a worker has the main memory for the run's workers and export."""
    import ray

    check_node_memory(config.workers, memory, [node["Resources"] for node in ray.nodes() if node["Alive"]])


def check_files(config: FinetuneConfig) -> None:
    """Raises ClusterError when a node that may get a worker does not see the same storage and base as this process."""
    places = {"run.storage": config.run.storage, "model.base": _base_config(config)}
    check_shared_paths(places, [config.workers.resource_request])


def expected_files(config: FinetuneConfig, train_tokens: str) -> dict[str, tuple[str, str]]:
    """What each worker must see before it trains, for doctor.shared_paths.check_paths_here.

    `train_tokens` is the location of the run's tokens, in run.storage.
    """
    return path_fingerprints({"run.storage": train_tokens, "model.base": _base_config(config)})


def _base_config(config: FinetuneConfig) -> str:
    return child_location(config.model.base, "config.json")
