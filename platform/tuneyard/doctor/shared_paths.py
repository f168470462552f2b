"""Checks that the nodes that get the work see the same files as the driver: before the work starts, and on its node."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from tuneyard.core.errors import ClusterError
from tuneyard.core.resources import ResourceRequest, describe_shortages
from tuneyard.core.wording import listed
from tuneyard.storage.location import is_uri

NO_MARKER = ".tuneyard-no-marker"
"""A marker file that never exists: folders are compared by their content."""

SHARED_STORAGE = (
    "Use storage that all nodes mount at the same path (NFS, EFS, FSx, Filestore), or an object store "
    "(TUNEYARD_STORAGE=s3://…). `tuneyard models copy` copies a checkpoint there."
)


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
            f"Not every node that may get the work sees the same files:\n{listed(lines)}\n{SHARED_STORAGE}"
        )


def path_fingerprints(paths: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Returns field -> (path, fingerprint) of the paths that exist here, for check_paths_here; URIs are left out."""
    from tuneyard.doctor.local_node import fingerprint

    prints = {field: (path, fingerprint(Path(path), NO_MARKER)) for field, path in paths.items() if not is_uri(path)}
    return {field: seen for field, seen in prints.items() if seen[1]}


def check_paths_here(expected: Mapping[str, tuple[str, str]]) -> None:
    """Raises ClusterError when this node does not see what the driver saw, as path_fingerprints returned it.

    For nodes that joined after check_shared_paths, such as an autoscaler's.
    """
    from tuneyard.doctor.local_node import fingerprint

    lines = []
    for field, (path, driver_print) in expected.items():
        seen = fingerprint(Path(path), NO_MARKER)
        if seen != driver_print:
            lines.append(f"{field}: {path} is {'different from' if seen else 'missing, unlike on'} the driver's node")
    if lines:
        raise ClusterError(
            f"The node {socket.gethostname()} does not see the files of the run:\n{listed(lines)}\n{SHARED_STORAGE}"
        )


def check_writable_here(location: str, *below: str) -> None:
    """Raises ClusterError when this process cannot write to a folder, or to those below it that exist.

    `below` are names of folders, each in the one before it. Does nothing for a URI.
    """
    from tuneyard.doctor.local_node import is_writable

    folder = Path(location)
    if is_uri(location):
        return
    for path in (folder, *(folder.joinpath(*below[: n + 1]) for n in range(len(below)))):
        if path.is_dir() and not is_writable(path):
            if os.statvfs(path).f_flag & os.ST_RDONLY:
                raise ClusterError(
                    f"{path} cannot be written on {socket.gethostname()}: its file system is mounted read-only. Mount "
                    "it with the option rw; in a pod, without readOnly."
                )
            raise ClusterError(
                f"{path} cannot be written on {socket.gethostname()} by user {os.getuid()}. It was made by another "
                f"user, often root: run `chown -R {os.getuid()} {path}` where the storage allows it."
            )
