"""Checks of who can reach a Ray cluster: its dashboard, its ports, its token files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tuneyard.core.wording import count_of, first_of
from tuneyard.doctor.dashboard_probe import REFUSALS, DashboardProbe
from tuneyard.doctor.findings import Finding, Severity
from tuneyard.doctor.node_facts import NodeFacts

METRICS_ONLY = ("autoscaler", "dashboard")
"""Components whose ports beyond loopback serve Prometheus metrics only, except the dashboard's main port."""

PORTS_SHOWN = 4
ADD_A_TOKEN = (
    "Make a token with `ray get-auth-token --generate`, put the same token into ~/.ray/auth_token of every node "
    "(chmod 600), and start every node with RAY_AUTH_MODE=token."
)
RESTRICT_PORTS = (
    "Let only the cluster's own nodes reach these ports: with a firewall, a security group or a private subnet. For a "
    "single-machine cluster, tuneyard cluster start --this-machine-only (Ray's RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0) "
    "binds all ports to 127.0.0.1. --node-ip-address does not: on Linux, Ray replaces it."
)
RESTRICT_SERVE = (
    "Let clients reach a load balancer with TLS, and let only the load balancer reach the proxy's HTTP port "
    "(8000 by default)."
)


def check_access(facts: Sequence[NodeFacts], probe: DashboardProbe) -> Iterator[Finding]:
    """Yields every finding about the access to the cluster. `facts` are of the nodes that answered."""
    yield from _check_dashboard(facts, probe)
    yield from _check_ports(facts, probe)
    yield from _check_token_files(facts)


def _check_dashboard(facts: Sequence[NodeFacts], probe: DashboardProbe) -> Iterator[Finding]:
    if not probe.dashboard:
        yield Finding("ok", "no dashboard runs", "the head")
        return
    if probe.is_open:
        what = "the dashboard answers without a token: anyone who reaches it can run code (ShadowRay, CVE-2023-48022)"
        yield Finding("error", what, probe.dashboard, ADD_A_TOKEN)
    elif probe.status_without_token is None:
        what = "the dashboard does not answer this process: whether it requires a token is unknown"
        fix = (
            "Run this on the head. If this does run on the head, see dashboard.log under /tmp/ray/session_latest/logs."
        )
        yield Finding("warning", what, probe.dashboard, fix)
    elif probe.status_with_token in REFUSALS:
        what = "the dashboard refuses the token of this process"
        fix = "Set RAY_AUTH_MODE=token here, and put the cluster's token into ~/.ray/auth_token or RAY_AUTH_TOKEN."
        yield Finding("warning", what, probe.dashboard, fix)
    else:
        yield Finding("ok", "the dashboard requires a token", probe.dashboard)
    addresses = [address for address in _addresses(facts, "dashboard") if address.endswith(_dashboard_port(probe))]
    if addresses:
        what = "the dashboard listens beyond loopback" + (", without a token" if probe.is_open else "")
        fix = "Start the head with --dashboard-host 127.0.0.1, Ray's default, and reach it through `ssh -L`."
        yield Finding("error" if probe.is_open else "warning", what, ", ".join(addresses), fix)


def _check_ports(facts: Sequence[NodeFacts], probe: DashboardProbe) -> Iterator[Finding]:
    """Checks all ports but the dashboard's main port."""
    is_exposed = False
    for component in sorted({port.component for fact in facts for port in fact.listeners}):
        addresses = [
            address
            for address in _addresses(facts, component)
            if component != "dashboard" or not address.endswith(_dashboard_port(probe))
        ]
        if not addresses:
            continue
        is_exposed = True
        what = f"ports beyond loopback: {_exposure(component, probe)}"
        fix = RESTRICT_SERVE if component == "serve proxy" else RESTRICT_PORTS
        yield Finding("warning", what, f"{component} {first_of(addresses, PORTS_SHOWN)}", fix)
    if not is_exposed:
        yield Finding("ok", "Ray's own ports are on loopback only", count_of(len(facts), "node"))


def _exposure(component: str, probe: DashboardProbe) -> str:
    """Returns what someone who reaches the component's port can do."""
    if component == "serve proxy":
        return "API keys protect the served models; nothing protects /-/routes and the proxy's statistics"
    if component in METRICS_ONLY:
        return "anyone who reaches them can read metrics, with a token or without"
    if probe.is_open:
        return "anyone who reaches them can run code"
    return "the token protects calls but not metrics; without RAY_USE_TLS traffic is plain text"


def _check_token_files(facts: Sequence[NodeFacts]) -> Iterator[Finding]:
    with_file = [fact for fact in facts if fact.token_mode is not None]
    permissive = [fact for fact in with_file if (fact.token_mode or 0) & 0o077]
    for fact in permissive:
        reason = "others can read it" if fact.token_is_exposed else "only the folders above it keep others out"
        what = f"the token file has mode {fact.token_mode:04o}: {reason}"
        severity: Severity = "error" if fact.token_is_exposed else "warning"
        yield Finding(severity, what, f"{fact.token_file} on {fact.name}", f"chmod 600 {fact.token_file}")
    if with_file and not permissive:
        yield Finding("ok", "only its owner can read the token file", count_of(len(with_file), "node"))


def _dashboard_port(probe: DashboardProbe) -> str:
    """Returns `:port` of the dashboard; without a dashboard, a text that no address ends with."""
    return ":" + probe.dashboard.rpartition(":")[2] if probe.dashboard else "none"


def _addresses(facts: Sequence[NodeFacts], component: str) -> list[str]:
    """Returns `host:port` of the component's ports; for a port on all interfaces, the host is the node's address."""
    return [
        f"{fact.ip if port.address in ('0.0.0.0', '::') else port.address}:{port.port}"
        for fact in facts
        for port in fact.listeners
        if port.component == component
    ]
