"""A checkpoint on one node's local disk, seen before the work starts on another node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tuneyard.core.errors import ClusterError
from tuneyard.core.resources import Need, what_lacks
from tuneyard.storage.folder import is_uri


def check_seen_by_nodes(places: Mapping[str, str], needs: Sequence[Need]) -> None:
    """Raises ClusterError when a node that may get the work does not see what this process sees.

    `places`: field of the config -> path of a file or folder; URIs are left out. A cluster of one
    node is not asked.
    """
    import ray

    from tuneyard.doctor.node_probe import probe_nodes, unseen_by

    nodes = [node for node in ray.nodes() if node["Alive"]]
    paths = {field: path for field, path in places.items() if not is_uri(path)}
    if len(nodes) == 1 or not paths:
        return
    able = {
        node["NodeID"]
        for node in nodes
        if any(not what_lacks([Need(1, need.each)], [node["Resources"]]) for need in needs)
    }
    facts = [fact for fact in probe_nodes(list(paths.values())) if fact.node_id in able]
    lines = [
        f"{field}: {path} is not what {', '.join(names)} sees there"
        for field, path in paths.items()
        if (names := unseen_by(facts, path))
    ]
    if lines:
        raise ClusterError(
            "Not every node that may get the work sees the same files:\n  " + "\n  ".join(lines) + "\nUse storage that "
            "all nodes mount at the same place (NFS, EFS, FSx, Filestore), or an object store "
            "(TUNEYARD_STORAGE=s3://…); tuneyard models copy brings a checkpoint there."
        )
