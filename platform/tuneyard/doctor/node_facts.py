"""What the nodes of a Ray cluster answered when they were asked (tuneyard.doctor.node_probe)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Listener:
    """A TCP port that one of Ray's processes listens on, beyond loopback."""

    component: str
    address: str
    port: int


@dataclass(frozen=True)
class PathFacts:
    """A path as one node sees it; `expanded` is what its variables and `~` became there."""

    path: str
    expanded: str
    exists: bool
    writable: bool
    same_content: bool
    """Whether it holds there what it holds for the driver."""


@dataclass(frozen=True)
class NodeFacts:
    """What a node answered. With a `problem` it did not, and only the fields before that one, Ray's own, count."""

    node_id: str
    ip: str
    hostname: str
    is_head: bool
    ray_gpus: float
    problem: str = ""
    versions: Mapping[str, str | None] = field(default_factory=dict)
    """Of python and of packages; None where one is not installed."""
    driver_gpus: int = 0
    pci_gpus: int = 0
    """NVIDIA GPUs in the machine, whether a driver runs or not; a container without GPUs sees them as well."""
    listeners: tuple[Listener, ...] = ()
    clock_offset_s: float | None = None
    """How far this node's clock is ahead of the driver's, give or take `clock_uncertainty_s`."""
    clock_uncertainty_s: float = 0.0
    paths: tuple[PathFacts, ...] = ()
    token_file: str = ""
    token_mode: int | None = None
    """None without a token file."""
    token_is_exposed: bool = False
    """Whether the group or others can read it."""

    @property
    def name(self) -> str:
        """For people; several nodes may share a machine."""
        return f"{self.ip} ({self.hostname}, node {self.node_id[:6]})"
