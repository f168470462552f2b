"""Checks of a cluster's nodes: that they answer, have the same versions and storage, their GPUs, and correct clocks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tuneyard.core.wording import count_of
from tuneyard.doctor.findings import Finding
from tuneyard.doctor.node_facts import NodeFacts

FIRST_SAFE_RAY = (2, 54)
"""In older versions the dashboard executes DELETE requests without authentication: CVE-2026-27482."""

CLOCK_WARNING_S = 1.0
CLOCK_ERROR_S = 30.0
"""With a larger offset, TLS certificates and S3 request signatures are rejected."""


def check_nodes(facts: Sequence[NodeFacts]) -> Iterator[Finding]:
    """Yields every finding about the nodes that answered."""
    yield from _check_versions(facts)
    yield from _check_paths(facts)
    yield from _check_gpus(facts)
    yield from _check_clocks(facts)


def check_answers(facts: Sequence[NodeFacts]) -> Iterator[Finding]:
    """Yields an error for each node that did not answer. `facts` are of all nodes."""
    for fact in facts:
        if fact.problem:
            fix = (
                "See `ray status`, and raylet.out under /tmp/ray/session_latest/logs on that node. A mount that hangs "
                "also stops the probe."
            )
            yield Finding("error", f"the node did not answer: {fact.problem}", fact.name, fix)
    if not any(fact.problem for fact in facts):
        yield Finding("ok", "every node answers", _node_count(facts))


def _check_versions(facts: Sequence[NodeFacts]) -> Iterator[Finding]:
    for package in dict.fromkeys(package for fact in facts for package in fact.versions):
        nodes_by_version: dict[str, list[NodeFacts]] = {}
        for fact in facts:
            nodes_by_version.setdefault(fact.versions.get(package) or "none", []).append(fact)
        if len(nodes_by_version) == 1:
            yield Finding("ok", f"{package}: {next(iter(nodes_by_version))}", _node_count(facts))
            continue
        # Nodes may differ in Python's patch version, not in its minor version.
        distinct = {v.rpartition(".")[0] if package == "python" else v for v in nodes_by_version}
        is_fatal = package in ("ray", "python") and len(distinct) > 1
        what = f"{package} differs between nodes: {', '.join(sorted(nodes_by_version))}"
        where = "; ".join(f"{version}: {_names(nodes)}" for version, nodes in sorted(nodes_by_version.items()))
        fix = f"Install one version of {package} on every node."
        yield Finding("error" if is_fatal else "warning", what, where, fix)
    old = [fact for fact in facts if _minor_version(fact.versions.get("ray")) < FIRST_SAFE_RAY]
    if old:
        what = "this version of Ray executes DELETE requests without authentication (CVE-2026-27482)"
        yield Finding("error", what, _names(old), "Install Ray 2.54 or newer on every node.")


def _check_paths(facts: Sequence[NodeFacts]) -> Iterator[Finding]:
    for path in dict.fromkeys(seen.path for fact in facts for seen in fact.paths):
        views = [(fact, seen) for fact in facts for seen in fact.paths if seen.path == path]
        missing = [fact for fact, seen in views if not seen.exists]
        different = [fact for fact, seen in views if seen.exists and not seen.same_content]
        read_only = [fact for fact, seen in views if seen.same_content and not seen.writable]
        fix = f"Mount the same storage at {path} on every node, or use an object store."
        if missing:
            yield Finding("error", f"{path} does not exist", _names(missing), fix)
        if different:
            yield Finding("error", f"{path} holds something else than on the driver", _names(different), fix)
        if read_only:
            fix = "Give Ray's user the right to write there, if runs are to be stored there."
            yield Finding("warning", f"{path} cannot be written", _names(read_only), fix)
        if not (missing or different):
            yield Finding("ok", f"{path} is the same on every node", _node_count(facts))


def _check_gpus(facts: Sequence[NodeFacts]) -> Iterator[Finding]:
    for fact in facts:
        if fact.ray_gpus > fact.driver_gpus:
            what = f"Ray counts {fact.ray_gpus:g} GPUs, but the NVIDIA driver lists {fact.driver_gpus}"
            fix = "Install the NVIDIA driver (for containers, its container toolkit), or correct --num-gpus."
            yield Finding("error", what, fact.name, fix)
        elif fact.ray_gpus < fact.driver_gpus:
            what = f"the NVIDIA driver lists {fact.driver_gpus} GPUs, but Ray counts {fact.ray_gpus:g}: the others idle"
            fix = "Start this node without --num-gpus and CUDA_VISIBLE_DEVICES, so that Ray counts the GPUs itself."
            yield Finding("warning", what, fact.name, fix)
        elif fact.pci_gpus and not fact.driver_gpus:
            what = f"the machine has {fact.pci_gpus} NVIDIA GPUs, but no driver lists them"
            fix = "Install the NVIDIA driver, or give the container its GPUs, if this node is to use them."
            yield Finding("warning", what, fact.name, fix)
    if all(fact.ray_gpus == fact.driver_gpus for fact in facts):
        total = sum(fact.driver_gpus for fact in facts)
        yield Finding("ok", f"Ray counts the GPUs that the NVIDIA drivers list: {total}", _node_count(facts))


def _check_clocks(facts: Sequence[NodeFacts]) -> Iterator[Finding]:
    skews = {fact.name: skew_s for fact in facts if (skew_s := _clock_skew_s(fact)) > CLOCK_WARNING_S}
    for name, skew_s in skews.items():
        is_fatal = skew_s > CLOCK_ERROR_S
        what = f"the clock differs from the driver's by at least {skew_s:.1f} s"
        if is_fatal:
            what += ": TLS certificates and signatures of S3 requests are rejected"
        fix = "Run chrony, or another NTP client, on every node."
        yield Finding("error" if is_fatal else "warning", what, name, fix)
    if not skews:
        yield Finding("ok", f"clocks agree within {CLOCK_WARNING_S:g} s", _node_count(facts))


def _clock_skew_s(fact: NodeFacts) -> float:
    """Returns the least possible offset of the node's clock: the measured offset less its uncertainty."""
    return max(0.0, abs(fact.clock_offset_s or 0.0) - fact.clock_uncertainty_s)


def _minor_version(version: str | None) -> tuple[int, ...]:
    """Returns (major, minor); FIRST_SAFE_RAY for a text that is no version."""
    numbers = re.match(r"(\d+)\.(\d+)", version or "")
    return tuple(map(int, numbers.groups())) if numbers else FIRST_SAFE_RAY


def _names(facts: Sequence[NodeFacts]) -> str:
    return ", ".join(fact.name for fact in facts)


def _node_count(facts: Sequence[NodeFacts]) -> str:
    return count_of(len(facts), "node")
