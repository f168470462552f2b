"""What is wrong with a Ray cluster: open doors, nodes that differ, storage that is not shared, GPUs that are not there.

Told from facts alone: tuneyard.doctor.cluster_doctor gathers them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from tuneyard.doctor.node_facts import NodeFacts

Severity = Literal["error", "warning", "ok"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "ok")
FIRST_SAFE_RAY = (2, 54)
"""Before it, the dashboard takes DELETE requests without authentication: CVE-2026-27482."""
CLOCK_WARNING_S = 1.0
CLOCK_ERROR_S = 30.0
BAD_CLOCK = ": TLS certificates and signatures of S3 fail"
REFUSALS = (401, 403)
METRICS_ONLY = ("autoscaler", "dashboard")
"""Whose ports beyond loopback serve Prometheus metrics only (the dashboard's own port apart)."""
METRICS = "metrics for anyone who asks, with a token or without"
CALLS_WITH_TOKEN = (
    "where the cluster asks for a token it guards calls, not metrics; without RAY_USE_TLS traffic is plain text"
)
SERVED = "API keys guard the models served; nothing guards /-/routes and the proxy's statistics"
GUARD_SERVE = "Let clients reach a load balancer with TLS, and only that reach the proxy's HTTP port, 8000 by default."
PLACES_SHOWN = 4
USE_A_TOKEN = (
    "Make a token with `ray get-auth-token --generate`, put the same one into ~/.ray/auth_token of every node "
    "(chmod 600), and start every node with RAY_AUTH_MODE=token."
)
GUARD_PORTS = (
    "Let only the cluster's own nodes reach these ports: a firewall, a security group or a private subnet. On a "
    "single machine that no other is to join, tuneyard cluster start --this-machine-only (Ray's own "
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0) puts all of them on 127.0.0.1; --node-ip-address does not: on Linux, Ray "
    "replaces it."
)


@dataclass(frozen=True)
class Reach:
    """How the dashboard answers the driver: HTTP statuses, None for no answer. Without a dashboard, no address."""

    dashboard: str = ""
    """`host:port`."""
    status_without_token: int | None = None
    status_with_token: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether the dashboard does what it is told without a token."""
        return self.status_without_token is not None and self.status_without_token not in REFUSALS


@dataclass(frozen=True)
class Finding:
    """One thing that was checked. `fix` is empty when it is ok."""

    severity: Severity
    what: str
    where: str
    fix: str = ""


def diagnose(facts: Sequence[NodeFacts], reach: Reach, more: Sequence[Finding] = ()) -> list[Finding]:
    """Every finding with all places where it holds, errors first; what was checked and is right is there as ok.

    `more` was found otherwise.
    """
    answered = [fact for fact in facts if not fact.problem]
    findings = chain(
        _answers(facts),
        _dashboard(answered, reach),
        _ports(answered, reach),
        _token_file(answered),
        _versions(answered),
        _paths(answered),
        _gpus(answered),
        _clocks(answered),
        more,
    )
    places: dict[tuple[Severity, str, str], list[str]] = {}
    for finding in findings:
        places.setdefault((finding.severity, finding.what, finding.fix), []).append(finding.where)
    merged = [Finding(severity, what, ", ".join(where), fix) for (severity, what, fix), where in places.items()]
    return sorted(merged, key=lambda finding: SEVERITIES.index(finding.severity))


def _answers(facts: Sequence[NodeFacts]) -> Iterator[Finding]:
    for fact in facts:
        if fact.problem:
            fix = (
                "See `ray status`, and raylet.out under /tmp/ray/session_latest/logs on that node. A mount that hangs "
                "stops the probe as well."
            )
            yield Finding("error", f"the node did not answer: {fact.problem}", fact.name, fix)
    if not any(fact.problem for fact in facts):
        yield Finding("ok", "every node answers", _nodes(facts))


def _dashboard(facts: Sequence[NodeFacts], reach: Reach) -> Iterator[Finding]:
    if not reach.dashboard:
        yield Finding("ok", "no dashboard runs", "the head")
        return
    if reach.is_open:
        what = "the dashboard answers without a token: anyone who reaches it can run code (ShadowRay, CVE-2023-48022)"
        yield Finding("error", what, reach.dashboard, USE_A_TOKEN)
    elif reach.status_without_token is None:
        fix = "Run this on the head. If it does run there, see dashboard.log under /tmp/ray/session_latest/logs."
        yield Finding(
            "warning", "the dashboard does not answer here: whether it is open is unknown", reach.dashboard, fix
        )
    elif reach.status_with_token in REFUSALS:
        fix = "Set RAY_AUTH_MODE=token here, and put the cluster's token into ~/.ray/auth_token or RAY_AUTH_TOKEN."
        yield Finding("warning", "the dashboard refuses the token of this process", reach.dashboard, fix)
    else:
        yield Finding("ok", "the dashboard asks for a token", reach.dashboard)
    bound = [place for place in _places(facts, "dashboard") if place.endswith(_port_of(reach))]
    if bound:
        what = "the dashboard listens beyond loopback" + (", without a token" if reach.is_open else "")
        fix = "Start the head with --dashboard-host 127.0.0.1, Ray's default, and reach it through `ssh -L`."
        yield Finding("error" if reach.is_open else "warning", what, ", ".join(bound), fix)


def _ports(facts: Sequence[NodeFacts], reach: Reach) -> Iterator[Finding]:
    """All but the dashboard's own port."""
    calls = "anyone who reaches them can run code" if reach.is_open else CALLS_WITH_TOKEN
    found = False
    for component in sorted({port.component for fact in facts for port in fact.listeners}):
        places = [p for p in _places(facts, component) if component != "dashboard" or not p.endswith(_port_of(reach))]
        if not places:
            continue
        found = True
        where = f"{component} {_shortened(places)}"
        if component == "serve proxy":
            yield Finding("warning", f"ports beyond loopback: {SERVED}", where, GUARD_SERVE)
        else:
            danger = METRICS if component in METRICS_ONLY else calls
            yield Finding("warning", f"ports beyond loopback: {danger}", where, GUARD_PORTS)
    if not found:
        yield Finding("ok", "Ray's own ports are on loopback only", _nodes(facts))


def _token_file(facts: Sequence[NodeFacts]) -> Iterator[Finding]:
    with_file = [fact for fact in facts if fact.token_mode is not None]
    loose = [fact for fact in with_file if (fact.token_mode or 0) & 0o077]
    for fact in loose:
        where = f"{fact.token_file} on {fact.name}"
        shield = "others can read it" if fact.token_is_exposed else "only the folders above keep others out"
        what = f"the token file has mode {fact.token_mode:04o}: {shield}"
        yield Finding("error" if fact.token_is_exposed else "warning", what, where, f"chmod 600 {fact.token_file}")
    if with_file and not loose:
        yield Finding("ok", "the token file is its owner's alone", _nodes(with_file))


def _versions(facts: Sequence[NodeFacts]) -> Iterator[Finding]:
    for package in dict.fromkeys(package for fact in facts for package in fact.versions):
        where: dict[str, list[NodeFacts]] = {}
        for fact in facts:
            where.setdefault(fact.versions.get(package) or "none", []).append(fact)
        if len(where) == 1:
            yield Finding("ok", f"{package}: {next(iter(where))}", _nodes(facts))
            continue
        minors = {version.rpartition(".")[0] if package == "python" else version for version in where}
        fatal = package in ("ray", "python") and len(minors) > 1
        what = f"{package} differs between nodes: {', '.join(sorted(where))}"
        places = "; ".join(f"{version}: {_names(nodes)}" for version, nodes in sorted(where.items()))
        yield Finding("error" if fatal else "warning", what, places, f"Install one version of {package} on every node.")
    old = [fact for fact in facts if _release(fact.versions.get("ray")) < FIRST_SAFE_RAY]
    if old:
        what = "this Ray takes DELETE requests without authentication (CVE-2026-27482)"
        yield Finding("error", what, _names(old), "Install Ray 2.54 or newer on every node.")


def _paths(facts: Sequence[NodeFacts]) -> Iterator[Finding]:
    for path in dict.fromkeys(seen.path for fact in facts for seen in fact.paths):
        seen_there = [(fact, seen) for fact in facts for seen in fact.paths if seen.path == path]
        absent = [fact for fact, seen in seen_there if not seen.exists]
        other = [fact for fact, seen in seen_there if seen.exists and not seen.same_content]
        fixed = [fact for fact, seen in seen_there if seen.same_content and not seen.writable]
        fix = f"Mount the same storage at {path} on every node, or use an object store."
        if absent:
            yield Finding("error", f"{path} is not there", _names(absent), fix)
        if other:
            yield Finding("error", f"{path} holds something else than the driver sees", _names(other), fix)
        if fixed:
            what = f"{path} cannot be written"
            yield Finding(
                "warning", what, _names(fixed), "Ray's user needs to write there, if runs are to be kept there."
            )
        if not (absent or other):
            yield Finding("ok", f"{path} is the same everywhere", _nodes(facts))


def _gpus(facts: Sequence[NodeFacts]) -> Iterator[Finding]:
    for fact in facts:
        if fact.ray_gpus > fact.driver_gpus:
            what = f"Ray counts {fact.ray_gpus:g} GPUs, the driver shows {fact.driver_gpus}"
            fix = "Install the NVIDIA driver (for containers, its container toolkit), or correct --num-gpus."
            yield Finding("error", what, fact.name, fix)
        elif fact.ray_gpus < fact.driver_gpus:
            what = f"the driver shows {fact.driver_gpus} GPUs, Ray counts {fact.ray_gpus:g}: the others stay idle"
            fix = "Start this node without --num-gpus and CUDA_VISIBLE_DEVICES, so that Ray counts itself."
            yield Finding("warning", what, fact.name, fix)
        elif fact.pci_gpus and not fact.driver_gpus:
            what = f"the machine holds {fact.pci_gpus} NVIDIA GPUs, and no driver shows them"
            fix = "Install the NVIDIA driver, or give the container its GPUs, if this node is to use them."
            yield Finding("warning", what, fact.name, fix)
    if all(fact.ray_gpus == fact.driver_gpus for fact in facts):
        yield Finding(
            "ok", f"Ray counts the GPUs that drivers show: {sum(f.driver_gpus for f in facts)}", _nodes(facts)
        )


def _clocks(facts: Sequence[NodeFacts]) -> Iterator[Finding]:
    off = {fact.name: skew for fact in facts if (skew := _skew_s(fact)) > CLOCK_WARNING_S}
    for name, skew in off.items():
        bad = skew > CLOCK_ERROR_S
        what = f"the clock is at least {skew:.1f} s off the driver's" + (BAD_CLOCK if bad else "")
        yield Finding("error" if bad else "warning", what, name, "Run chrony, or another NTP client, on every node.")
    if not off:
        yield Finding("ok", f"clocks agree within {CLOCK_WARNING_S:g} s", _nodes(facts))


def _skew_s(fact: NodeFacts) -> float:
    """By how much the clock is off for certain: an offset within the round trip's uncertainty is none."""
    return max(0.0, abs(fact.clock_offset_s or 0.0) - fact.clock_uncertainty_s)


def _release(version: str | None) -> tuple[int, ...]:
    """Major and minor number; of what is no version, the newest."""
    numbers = re.match(r"(\d+)\.(\d+)", version or "")
    return tuple(map(int, numbers.groups())) if numbers else FIRST_SAFE_RAY


def _port_of(reach: Reach) -> str:
    return ":" + reach.dashboard.rpartition(":")[2] if reach.dashboard else "none"


def _places(facts: Sequence[NodeFacts], component: str) -> list[str]:
    """`host:port` of each; a port on all interfaces is shown with its node's address."""
    return [
        f"{fact.ip if port.address in ('0.0.0.0', '::') else port.address}:{port.port}"
        for fact in facts
        for port in fact.listeners
        if port.component == component
    ]


def _shortened(places: Sequence[str]) -> str:
    more = len(places) - PLACES_SHOWN
    return ", ".join(places[:PLACES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _names(facts: Sequence[NodeFacts]) -> str:
    return ", ".join(fact.name for fact in facts)


def _nodes(facts: Sequence[NodeFacts]) -> str:
    return f"{len(facts)} node{'s' if len(facts) != 1 else ''}"
