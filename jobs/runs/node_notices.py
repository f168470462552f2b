"""Notices of nodes that leave or join the cluster during a run, and the run's metrics from its workers."""

from __future__ import annotations

import logging

import ray
import ray.exceptions

from tuneyard.cluster.driver_channel import DriverChannel
from tuneyard.configs.workers import WorkersConfig
from tuneyard.core.wording import count_of

logger = logging.getLogger(__name__)


class ClusterEvents:
    """The EventSource of a run on Ray: metrics from a DriverChannel, notices from Ray's list of nodes."""

    def __init__(self, channel: DriverChannel, workers: WorkersConfig) -> None:
        self._channel = channel
        self._what_follows = _what_follows(workers)
        self._nodes = _alive_nodes()

    def next_events(self) -> list[dict[str, float]]:
        """The metrics received since the last call; none while the cluster does not answer."""
        try:
            return self._channel.receive()
        except ray.exceptions.RayError as e:
            logger.warning("The run's progress cannot be read at the moment: %s", e)
            return []

    def notices(self) -> list[str]:
        """One line for each node that left or joined since the last call."""
        before, self._nodes = self._nodes, _alive_nodes()
        left = [before[node] for node in before.keys() - self._nodes.keys()]
        joined = [self._nodes[node] for node in self._nodes.keys() - before.keys()]
        size = f"the cluster has {count_of(len(self._nodes), 'node')} now"
        return [
            *(f"node {node} has left; {size}. {self._what_follows}" for node in left),
            *(f"node {node} has joined; {size}" for node in joined),
        ]


def _what_follows(workers: WorkersConfig) -> str:
    if len(workers.worker_counts) > 1:
        then = "in about a minute, with as many workers as the cluster can hold"
    else:
        then = "as soon as the cluster can hold its workers: start the node again, or add one"
    return f"If it ran a worker, the run continues from its last checkpoint {then}"


def _alive_nodes() -> dict[str, str]:
    """By node id, the node's address and the start of its id: several nodes may share an address."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    return {node["NodeID"]: f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})" for node in alive}
