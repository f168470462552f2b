"""Checks that the nodes that may get the work see the same files as the driver, before the work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tuneyard.core.errors import ClusterError
from tuneyard.core.resources import ResourceRequest, describe_shortages
from tuneyard.core.wording import listed
from tuneyard.storage.location import is_uri


def check_shared_paths(paths: Mapping[str, str], requests: Sequence[ResourceRequest]) -> None:
    """Raises ClusterError when a node that can hold one of the requests does not see what this process sees.

    `paths` maps a config's field to the path of a file or folder; URIs are ignored. Does nothing on a cluster of one
    node. Needs a connected Ray.
    """
    import ray

    from tuneyard.doctor.node_probe import nodes_without, probe_nodes

    nodes = [node for node in ray.nodes() if node["Alive"]]
    local_paths = {field: path for field, path in paths.items() if not is_uri(path)}
    if len(nodes) == 1 or not local_paths:
        return
    candidates = {
        node["NodeID"]
        for node in nodes
        if any(not describe_shortages([ResourceRequest(1, r.per_process)], [node["Resources"]]) for r in requests)
    }
    facts = [fact for fact in probe_nodes(list(local_paths.values())) if fact.node_id in candidates]
    lines = [
        f"{field}: {path} is missing or different on {', '.join(names)}"
        for field, path in local_paths.items()
        if (names := nodes_without(facts, path))
    ]
    if lines:
        raise ClusterError(
            f"Not every node that may get the work sees the same files:\n{listed(lines)}\nUse storage that all nodes "
            "mount at the same path (NFS, EFS, FSx, Filestore), or an object store (TUNEYARD_STORAGE=s3://…). "
            "`tuneyard models copy` copies a checkpoint there."
        )
