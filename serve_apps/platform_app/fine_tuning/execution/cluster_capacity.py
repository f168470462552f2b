"""ClusterCapacity: what the cluster's nodes have, and how much of it is left for jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tuneyard.core.resources import Resources


@dataclass(frozen=True, slots=True)
class ClusterCapacity:
    """The resources of the living nodes, node by node."""

    total: Sequence[Resources]
    """All that a node has."""
    unserved: Sequence[Resources]
    """Without what the replicas take that are always served: those of the gateway, the reconciler, and of models up to
    their smallest number of replicas."""
    free: Sequence[Resources]
    """What nothing has reserved now."""
    maximum: Resources | None = None
    """What all nodes together have once the autoscaler has added all that it may; None if there is none, or if Ray does
    not know its limits."""


class CapacityReader(Protocol):
    """Reads the capacity of the cluster that jobs run on."""

    async def read(self) -> ClusterCapacity:
        """The capacity now. Raises ClusterError if the cluster does not answer."""
