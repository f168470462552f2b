"""diagnose reports a problem exactly when a fact is bad, with what, where and the fix."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.doctor.cluster_doctor import diagnose
from tuneyard.doctor.dashboard_probe import DashboardProbe
from tuneyard.doctor.findings import Finding, findings_table
from tuneyard.doctor.node_facts import HostFacts, Listener, NodeFacts, PathFacts

GUARDED = DashboardProbe("10.0.0.1:8265", status_without_token=401, status_with_token=200)
OPEN = DashboardProbe("10.0.0.1:8265", status_without_token=200)
VERSIONS = {"python": "3.11.7", "ray": "2.60.0", "tuneyard": "0.1.0", "torch": "2.13.0", "transformers": "5.24.0"}
SHARED = PathFacts("/shared", "/shared", exists=True, writable=True, same_content=True)


def node(number: int = 1, **bad: Any) -> NodeFacts:
    """A healthy node, except for the given facts."""
    good = NodeFacts(
        node_id=f"{number:06d}abcdef",
        ip=f"10.0.0.{number}",
        hostname=f"host-{number}",
        is_head=number == 1,
        ray_gpus=8.0,
        versions=VERSIONS,
        driver_gpus=8,
        pci_gpus=8,
        clock_offset_s=0.01,
        clock_uncertainty_s=0.02,
        paths=(SHARED,),
        token_file="/home/ray/.ray/auth_token",
        token_mode=0o600,
        host=HostFacts("580.65.06", 8 << 30, (f"10.0.0.{number}",), {"lo": ("127.0.0.1",)}),
    )
    return replace(good, **bad)


def problems(*facts: NodeFacts, probe: DashboardProbe = GUARDED) -> list[Finding]:
    """Findings that are not ok. Each must have a place and a fix."""
    found = [finding for finding in diagnose(facts, probe) if finding.severity != "ok"]
    assert all(finding.what and finding.where and finding.fix for finding in found)
    return found


def the_problem(*facts: NodeFacts, probe: DashboardProbe = GUARDED) -> tuple[str, str, str]:
    """Severity, what and where of the only problem."""
    (found,) = problems(*facts, probe=probe)
    return found.severity, found.what, found.where


def versions(**other: str | None) -> dict[str, str | None]:
    return VERSIONS | other


def test_a_healthy_cluster_has_no_problems_and_says_what_was_checked() -> None:
    assert problems(node(1), node(2)) == []
    text = " ".join(finding.what for finding in diagnose([node(1), node(2)], GUARDED))
    for part in ("answers", "requires a token", "loopback", "ray: 2.60.0", "/shared", "GPUs", "clocks"):
        assert part in text


def test_a_node_that_does_not_answer_is_a_finding_and_its_other_facts_are_ignored() -> None:
    silent = NodeFacts("000002abc", "10.0.0.2", "host-2", is_head=False, ray_gpus=8.0, problem="no answer within 60 s")
    severity, what, where = the_problem(node(1), silent)
    assert severity == "error"
    assert "no answer within 60 s" in what
    assert where == silent.name


@given(st.integers(100, 599))
def test_every_status_but_a_refusal_means_an_open_dashboard(status: int) -> None:
    found = problems(node(), probe=DashboardProbe("10.0.0.1:8265", status, 200))
    open_dashboards = [
        f for f in found if "CVE-2023-48022" in f.what and f.severity == "error" and f.where == "10.0.0.1:8265"
    ]
    assert bool(open_dashboards) == (status not in (401, 403))


def test_a_dashboard_that_does_not_answer_or_refuses_our_token_is_a_warning_and_no_dashboard_is_ok() -> None:
    severity, what, _ = the_problem(node(), probe=DashboardProbe("10.0.0.1:8265"))
    assert (severity, "unknown" in what) == ("warning", True)
    severity, what, _ = the_problem(node(), probe=DashboardProbe("10.0.0.1:8265", 401, 403))
    assert (severity, "refuses the token" in what) == ("warning", True)
    assert problems(node(), probe=DashboardProbe()) == []


@pytest.mark.parametrize(("probe", "severity"), [(GUARDED, "warning"), (OPEN, "error")])
def test_a_dashboard_beyond_loopback(probe: DashboardProbe, severity: str) -> None:
    bound = node(listeners=(Listener("dashboard", "0.0.0.0", 8265),))
    found = [finding for finding in problems(bound, probe=probe) if "beyond loopback" in finding.what]
    assert [(f.severity, f.where) for f in found] == [(severity, "10.0.0.1:8265")]
    # Another port of the same process serves metrics.
    other = node(listeners=(Listener("dashboard", "0.0.0.0", 44227),))
    assert not [f for f in problems(other, probe=probe) if "the dashboard listens" in f.what]


@pytest.mark.parametrize("component", ["gcs_server", "raylet", "metrics agent", "worker", "autoscaler"])
@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.1"])
def test_ports_beyond_loopback_are_named_with_a_fix_that_works(component: str, address: str) -> None:
    (found,) = problems(node(listeners=(Listener(component, address, 6379),)))
    assert found.severity == "warning"
    assert found.where == f"{component} 10.0.0.1:6379"
    assert "firewall" in found.fix
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0" in found.fix


def test_what_open_ports_allow_depends_on_the_token_and_the_component() -> None:
    bound = node(listeners=(Listener("raylet", "0.0.0.0", 1), Listener("autoscaler", "0.0.0.0", 2)))
    with_token = {finding.what for finding in problems(bound)}
    without = {finding.what for finding in problems(bound, probe=OPEN)}
    assert not any("can run code" in what for what in with_token)
    assert any("ports" in what and "can run code" in what for what in without)
    assert len([what for what in with_token if "can read metrics" in what]) == 1
    _, what, where = the_problem(node(listeners=(Listener("serve proxy", "0.0.0.0", 8000),)))
    assert "API keys" in what
    assert where == "serve proxy 10.0.0.1:8000"


def test_a_long_list_of_ports_is_shortened() -> None:
    ports = tuple(Listener("worker", "0.0.0.0", 10000 + number) for number in range(100))
    _, _, where = the_problem(node(listeners=ports))
    assert where.endswith(" and 96 more")


@given(st.integers(0, 0o777), st.booleans())
def test_a_token_file_must_be_private(mode: int, exposed: bool) -> None:
    found = problems(node(token_mode=mode, token_is_exposed=exposed))
    if mode & 0o077:
        assert [(f.severity, f.fix) for f in found] == [
            ("error" if exposed else "warning", "chmod 600 /home/ray/.ray/auth_token")
        ]
        assert f"{mode:04o}" in found[0].what
    else:
        assert found == []
    assert problems(node(token_mode=None)) == []


@pytest.mark.parametrize(
    ("package", "other", "severity"),
    [
        ("ray", "2.60.1", "error"),
        ("python", "3.12.7", "error"),
        ("python", "3.11.8", "warning"),
        ("torch", "2.9.0", "warning"),
        ("transformers", "4.57.3", "warning"),
        ("tuneyard", None, "warning"),
    ],
)
def test_versions_that_differ(package: str, other: str | None, severity: str) -> None:
    found, what, where = the_problem(node(1), node(2, versions=versions(**{package: other})))
    assert found == severity
    assert what.startswith(f"{package} differs")
    assert "host-1" in where
    assert f"{other or 'none'}: 10.0.0.2 (host-2" in where


def test_a_package_that_no_node_has_is_no_problem() -> None:
    bare = versions(torch=None)
    assert problems(node(1, versions=bare), node(2, versions=bare)) == []


@given(st.integers(0, 3), st.integers(0, 99), st.sampled_from(["", ".0", ".0rc1", ".dev0"]))
def test_ray_before_2_54_executes_delete_requests_from_anyone(major: int, minor: int, rest: str) -> None:
    found = problems(node(versions=versions(ray=f"{major}.{minor}{rest}")))
    assert [finding.severity for finding in found] == (["error"] if (major, minor) < (2, 54) else [])
    assert all("CVE-2026-27482" in finding.what for finding in found)


@pytest.mark.parametrize(
    ("seen", "severity", "part"),
    [
        (replace(SHARED, exists=False, writable=False, same_content=False), "error", "/shared does not exist"),
        (replace(SHARED, same_content=False), "error", "/shared holds something else"),
        (replace(SHARED, writable=False), "warning", "/shared cannot be written"),
    ],
)
def test_a_path_that_a_node_does_not_share(seen: PathFacts, severity: str, part: str) -> None:
    bad = node(2, paths=(seen,))
    found, what, where = the_problem(node(1), bad)
    assert (found, part in what, where) == (severity, True, bad.name)


@given(st.integers(0, 16), st.integers(0, 16), st.integers(0, 16))
def test_rays_gpu_count_must_equal_the_drivers(ray: int, driver: int, pci: int) -> None:
    found = problems(node(ray_gpus=float(ray), driver_gpus=driver, pci_gpus=pci))
    if ray > driver:
        expected = ["error"]
    elif ray < driver or (driver == 0 and pci > 0):
        expected = ["warning"]
    else:
        expected = []
    assert [finding.severity for finding in found] == expected
    assert all("GPUs" in finding.what for finding in found)


@given(st.floats(-100, 100), st.floats(0, 20))
def test_a_clock_offset_within_the_round_trip_is_no_problem(offset_s: float, uncertainty_s: float) -> None:
    found = problems(node(clock_offset_s=offset_s, clock_uncertainty_s=uncertainty_s))
    skew = abs(offset_s) - uncertainty_s
    expected = ["error"] if skew > 30 else ["warning"] if skew > 1 else []
    assert [finding.severity for finding in found] == expected


def test_an_unknown_clock_offset_is_no_problem() -> None:
    assert problems(node(clock_offset_s=None)) == []


def test_equal_findings_of_many_nodes_become_one_and_errors_come_first() -> None:
    facts = [node(number, token_mode=0o644, ray_gpus=9.0) for number in range(1, 5)]
    found = diagnose(facts, GUARDED)
    assert [finding.severity for finding in found[:3]] == ["error", "warning", "ok"]
    assert all(fact.name in finding.where for fact in facts for finding in found[:2])


def test_the_table_names_every_problem_its_place_and_its_fix() -> None:
    table = findings_table(diagnose([node(1), node(2, driver_gpus=0)], OPEN))
    assert table.startswith("error    the dashboard answers without a token")
    assert "  where  10.0.0.2 (host-2, node 000002)\n  fix    Install the NVIDIA driver" in table
    assert table.endswith("errors: 2, warnings: 0, ok: 13")
    assert max(map(len, table.splitlines())) <= 120
