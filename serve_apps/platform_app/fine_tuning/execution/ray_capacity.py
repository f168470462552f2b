"""RayCapacity: the capacity of the Ray cluster that this process is part of."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from serve_apps.platform_app.fine_tuning.execution.cluster_capacity import ClusterCapacity
from tuneyard.core.errors import ClusterError
from tuneyard.core.resources import Resources

SERVES_MIN_REPLICAS = 1
"""Ray Serve's default of `min_replicas`, which its details leave out."""

Amounts = dict[str, dict[str, float]]
"""Amounts of resources, by node."""


class RayCapacity:
    """See CapacityReader."""

    async def read(self) -> ClusterCapacity:
        """See CapacityReader."""
        return await asyncio.to_thread(_read)


def _read() -> ClusterCapacity:
    import ray
    from ray._private import state
    from ray.exceptions import RayError
    from ray.serve.context import _get_global_client

    try:
        total = {node["NodeID"]: dict(node["Resources"]) for node in ray.nodes() if node["Alive"]}
        free = state.available_resources_per_node()
        maximum = state.state.get_max_resources_from_cluster_config()
        served = lasting_amounts(_get_global_client().get_serve_details())
    except (RayError, RuntimeError) as e:
        raise ClusterError(f"The cluster does not say what it has: {e}") from e
    return ClusterCapacity(
        total=list(total.values()),
        unserved=[_less(amounts, served.get(node, {})) for node, amounts in total.items()],
        free=[free.get(node, {}) for node in total],
        maximum=maximum,
    )


def lasting_amounts(details: Mapping[str, Any]) -> Amounts:
    """What each node holds for replicas that are always served, of Ray Serve's details of all applications.

    Of an autoscaled deployment these are `min_replicas`; the others end when nobody uses them.
    """
    held: Amounts = {}
    for application in details.get("applications", {}).values():
        for deployment in application["deployments"].values():
            for replica in deployment["replicas"][: _lasting_replicas(deployment)]:
                on_node = held.setdefault(replica.get("node_id") or "", {})
                for name, amount in deployment["required_resources"].items():
                    on_node[name] = on_node.get(name, 0.0) + amount
    return held


def _lasting_replicas(deployment: Mapping[str, Any]) -> int:
    autoscaling = deployment["deployment_config"].get("autoscaling_config")
    if not autoscaling:
        return int(deployment["target_num_replicas"])
    return int(autoscaling.get("min_replicas", SERVES_MIN_REPLICAS))


def _less(amounts: Resources, taken: Resources) -> Resources:
    return {name: amount - taken.get(name, 0.0) for name, amount in amounts.items()}
