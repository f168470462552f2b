"""What the replicas of a deployment need from the cluster's nodes: resources, checkpoints, keys."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from serve_apps.deployment.checked_model import CheckedModel
from tuneyard.api.api_keys import KeyStore
from tuneyard.checkpoints.manifest import MANIFEST_NAME
from tuneyard.cluster.placement import check_placement
from tuneyard.configs.database import DatabaseConfig
from tuneyard.configs.responses import ResponsesConfig
from tuneyard.configs.serve import GatewayConfig, ModelAppConfig
from tuneyard.core.errors import ClusterError, ConfigError
from tuneyard.core.resources import ResourceRequest
from tuneyard.doctor.shared_paths import check_shared_paths
from tuneyard.storage.location import child_location


def check_replica_placement(
    models: Sequence[CheckedModel], gateway: GatewayConfig | None, *, wait_for_nodes: bool
) -> str:
    """Returns what the nodes are short of now, for messages; "" if all first replicas fit. See check_placement.

    Raises ClusterError if the replicas do not fit and `wait_for_nodes` is False, ConfigError for an autoscaling option
    that Serve does not know.
    """
    requests = [request for model in models for request in replica_requests(model.config)]
    # A model that starts without replicas must fit the cluster by itself, not beside all others.
    alone = [[ResourceRequest(1, request.per_process)] for request in requests if request.count == 0]
    if gateway is not None:
        requests.append(gateway.resource_request)
    shortages = [
        check_placement(
            simultaneous,
            "The deployment",
            wait_for_nodes=wait_for_nodes,
            fields="replicas.num_replicas, replicas.num_cpus, replicas.num_gpus, replicas.resources, gateway",
            wait_field="wait_for_nodes",
        )
        for simultaneous in (requests, *alone)
    ]
    return "; ".join(filter(None, shortages))


def check_files_visible(models: Sequence[CheckedModel], gateway: GatewayConfig | None, keys: KeyStore | None) -> None:
    """Raises ClusterError if a node that may run a replica does not see its checkpoint, or the file of API keys.

    A replica of the gateway needs the keys only.
    """
    for model in models:
        paths = {f"{model.config.model_id}: checkpoint": child_location(model.checkpoint, MANIFEST_NAME)}
        if keys is not None:
            paths["API keys"] = str(keys.path)
        check_shared_paths(paths, replica_requests(model.config))
    if gateway is not None and keys is not None:
        check_shared_paths({"API keys": str(keys.path)}, [gateway.resource_request])


def check_response_store(config: ResponsesConfig, database: DatabaseConfig | None) -> None:
    """Checks that responses can be stored, if they are to be.

    Raises ConfigError if the PostgreSQL database cannot be used. Raises ClusterError for a SQLite file on a cluster of
    several nodes: each node would have a file of its own, and a response could not be found on another node.
    """
    if not config.store:
        return
    if database is not None:
        from serve_apps.api.responses.store import ResponseStore

        store = ResponseStore.open(config, database)
        assert store is not None
        with contextlib.closing(store):
            store.database.check()
        return
    nodes = count_nodes()
    if nodes > 1:
        raise ClusterError(
            f"responses.store is true, and the cluster has {nodes} nodes. Stored responses are in a SQLite database, "
            f"{config.path}, which only the processes of one node can share. Set database to a PostgreSQL database, or "
            "responses.store: false, or deploy on a cluster of one node."
        )


def count_nodes() -> int:
    """The nodes of the connected cluster."""
    import ray

    return sum(bool(node["Alive"]) for node in ray.nodes())


def replica_requests(config: ModelAppConfig) -> list[ResourceRequest]:
    """The resources of the replicas that a model starts with; those of TensorRT-LLM's Ray workers apart."""
    replicas, engine = config.replicas, config.engine.tensorrt_llm
    count = _first_replicas(config)
    if engine is not None and engine.orchestrator == "ray":
        return [
            ResourceRequest(count, {"CPU": replicas.num_cpus} | replicas.resources),
            ResourceRequest(count * config.engine.gpus, {"CPU": 1.0, "GPU": 1.0}),
        ]
    amounts = {"CPU": replicas.num_cpus, "GPU": config.gpus_per_replica}
    return [ResourceRequest(count, {name: amount for name, amount in amounts.items() if amount} | replicas.resources)]


def _first_replicas(config: ModelAppConfig) -> int:
    """How many replicas a model starts with. Raises ConfigError for autoscaling options that Serve refuses."""
    from pydantic import ValidationError
    from ray.serve.config import AutoscalingConfig

    options = config.replicas.autoscaling_config
    if options is None:
        return config.replicas.num_replicas or 0
    known = sorted(AutoscalingConfig.model_fields)
    if unknown := sorted(set(options) - set(known)):
        raise ConfigError(
            f"{config.model_id}: autoscaling_config has no field {unknown[0]!r}. Known: {', '.join(known)}."
        )
    try:
        return int(AutoscalingConfig(**options).min_replicas)
    except ValidationError as e:
        raise ConfigError(f"{config.model_id}: autoscaling_config: {e}") from e
