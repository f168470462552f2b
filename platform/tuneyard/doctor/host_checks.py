"""Checks of what GPUs and process groups need of each node: the driver, /dev/shm, its own name, NCCL's interface."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tuneyard.core.resources import GIB
from tuneyard.core.wording import count_of
from tuneyard.doctor.findings import Finding
from tuneyard.doctor.node_facts import NodeFacts

LEAST_DRIVER = 580
"""CUDA 13, which both images have, runs on no older driver (CUDA Toolkit Release Notes, "CUDA Driver")."""

LEAST_SHARED_MEMORY = GIB
"""Bytes of /dev/shm that NVIDIA advises for NCCL in a container (NCCL's guide, Troubleshooting: "Docker"). Docker gives
64 MiB."""


def check_hosts(facts: Sequence[NodeFacts]) -> Iterator[Finding]:
    """Yields the findings about the machines of the nodes that answered."""
    with_gpus = [fact for fact in facts if fact.driver_gpus]
    yield from _check_drivers(with_gpus)
    yield from _check_shared_memory(with_gpus)
    yield from _check_names(facts)
    yield from _check_interfaces(facts)


def interfaces_for_nccl(value: str, names: Sequence[str]) -> list[str]:
    """Returns those of the names that a value of NCCL_SOCKET_IFNAME selects.

    The value lists prefixes; `=` in front makes them whole names, `^` excludes (NCCL's guide, Environment Variables).
    """
    is_excluding = value.startswith("^")
    rest = value.removeprefix("^")
    is_exact = rest.startswith("=")
    listed = [one.partition(":")[0] for one in rest.removeprefix("=").split(",") if one]

    def matches(name: str) -> bool:
        return any(name == one if is_exact else name.startswith(one) for one in listed)

    return [name for name in names if matches(name) != is_excluding]


def _check_drivers(facts: Sequence[NodeFacts]) -> Iterator[Finding]:
    known = [(fact, fact.host.driver_version) for fact in facts if fact.host.driver_version]
    for fact, version in known:
        if int(version.partition(".")[0]) < LEAST_DRIVER:
            what = f"NVIDIA's driver {version} is too old for CUDA 13, which the images have"
            yield Finding("error", what, fact.name, f"Install driver {LEAST_DRIVER} or newer on the host.")
    if known and all(int(version.partition(".")[0]) >= LEAST_DRIVER for _, version in known):
        yield Finding("ok", f"NVIDIA's driver is {LEAST_DRIVER} or newer", count_of(len(known), "node"))


def _check_shared_memory(facts: Sequence[NodeFacts]) -> Iterator[Finding]:
    small = [fact for fact in facts if fact.host.shared_memory_bytes < LEAST_SHARED_MEMORY]
    for fact in small:
        what = f"/dev/shm has {fact.host.shared_memory_bytes / 2**20:.0f} MiB: NCCL and Ray's object store need more"
        fix = "Start the container with --shm-size=10g, or mount an emptyDir with medium: Memory at /dev/shm."
        yield Finding("error", what, fact.name, fix)
    if facts and not small:
        yield Finding("ok", "/dev/shm has 1 GiB or more", count_of(len(facts), "node"))


def _check_names(facts: Sequence[NodeFacts]) -> Iterator[Finding]:
    """Only on several machines: on one, loopback is enough."""
    if len({fact.ip for fact in facts}) < 2:
        return
    has_problem = False
    for fact in facts:
        addresses = fact.host.name_addresses
        if not addresses:
            has_problem = True
            what = "the machine's own name does not resolve, so gloo cannot choose its address"
            yield Finding("warning", what, fact.name, f"Add `{fact.ip} {fact.hostname}` to /etc/hosts of the machine.")
        elif all(address.startswith("127.") for address in addresses) and not fact.host.gloo_interface:
            has_problem = True
            what = f"the machine's own name resolves to {', '.join(addresses)}: gloo offers that address to other nodes"
            fix = (
                f"Give the name its address ({fact.ip}) in /etc/hosts, or set GLOO_SOCKET_IFNAME to the interface of "
                "that address before Ray starts."
            )
            yield Finding("error", what, fact.name, fix)
    if not has_problem:
        yield Finding("ok", "the machines' own names resolve to addresses that others reach", _nodes(facts))


def _check_interfaces(facts: Sequence[NodeFacts]) -> Iterator[Finding]:
    is_cluster = len({fact.ip for fact in facts}) > 1
    for fact in facts:
        host = fact.host
        for variable, value in (
            ("NCCL_SOCKET_IFNAME", host.nccl_interface),
            ("GLOO_SOCKET_IFNAME", host.gloo_interface),
        ):
            if not value:
                continue
            names = list(host.interfaces)
            selected = (
                interfaces_for_nccl(value, names) if variable.startswith("NCCL") else [n for n in names if n == value]
            )
            if not selected:
                what = f"{variable}={value} names none of the node's interfaces: {', '.join(sorted(names))}"
                yield Finding("error", what, fact.name, f"Set {variable} to the interface of {fact.ip}, or unset it.")
            elif is_cluster and not _reaches_others(host.interfaces, selected):
                what = f"{variable}={value} selects only loopback, at which other nodes cannot reach this one"
                yield Finding("error", what, fact.name, f"Set {variable} to the interface of {fact.ip}, or unset it.")


def _reaches_others(interfaces: Mapping[str, tuple[str, ...]], selected: Sequence[str]) -> bool:
    return any(not address.startswith("127.") for name in selected for address in interfaces[name])


def _nodes(facts: Sequence[NodeFacts]) -> str:
    return count_of(len(facts), "node")
