"""What the probe of a node returns (tuneyard.doctor.node_probe)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Listener:
    """A TCP port beyond loopback that one of Ray's processes listens on."""

    component: str
    address: str
    port: int


@dataclass(frozen=True)
class PathFacts:
    """A path as one node sees it."""

    path: str
    expanded: str
    """The path after the node's variables and `~` were expanded."""
    exists: bool
    writable: bool
    same_content: bool
    """Whether the node sees the same content there as the driver."""


@dataclass(frozen=True)
class HostFacts:
    """What GPUs and process groups need of a node's machine."""

    driver_version: str | None = None
    """Version of NVIDIA's kernel module; None without one."""
    shared_memory_bytes: int = 0
    """Size of /dev/shm."""
    name_addresses: tuple[str, ...] = ()
    """IPv4 addresses that the machine's own name resolves to."""
    interfaces: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """IPv4 addresses by network interface."""
    nccl_interface: str = ""
    """NCCL_SOCKET_IFNAME of Ray's processes."""
    gloo_interface: str = ""
    """GLOO_SOCKET_IFNAME of Ray's processes."""


@dataclass(frozen=True)
class NodeFacts:
    """The facts of one node. If `problem` is not empty, the node did not answer and only the fields above it count."""

    node_id: str
    ip: str
    hostname: str
    is_head: bool
    ray_gpus: float
    problem: str = ""
    """Why the node did not answer."""
    versions: Mapping[str, str | None] = field(default_factory=dict)
    """Versions of python and of packages; None for a package that is not installed."""
    driver_gpus: int = 0
    """GPUs that the NVIDIA driver lists."""
    pci_gpus: int = 0
    """NVIDIA GPUs in the machine, with or without a driver. A container without GPUs sees them too."""
    listeners: tuple[Listener, ...] = ()
    clock_offset_s: float | None = None
    """Seconds that this node's clock is ahead of the driver's, within `clock_uncertainty_s`; None if unknown."""
    clock_uncertainty_s: float = 0.0
    paths: tuple[PathFacts, ...] = ()
    token_file: str = ""
    token_mode: int | None = None
    """Permission bits of the token file; None without one."""
    token_is_exposed: bool = False
    """Whether the group or others can read the token file."""

    host: HostFacts = field(default_factory=HostFacts)

    @property
    def name(self) -> str:
        """Address, host name and node id, because several nodes may share a machine."""
        return f"{self.ip} ({self.hostname}, node {self.node_id[:6]})"
