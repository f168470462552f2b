"""Each finding is there when its fact is bad, and only then; each says what, where and the fix."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.doctor.cluster_checks import Finding, Reach, diagnose
from tuneyard.doctor.cluster_doctor import findings_table
from tuneyard.doctor.node_facts import Listener, NodeFacts, PathFacts

GUARDED = Reach("10.0.0.1:8265", status_without_token=401, status_with_token=200)
OPEN = Reach("10.0.0.1:8265", status_without_token=200)
VERSIONS = {"python": "3.11.7", "ray": "2.60.0", "tuneyard": "0.1.0", "torch": "2.13.0", "transformers": "5.24.0"}
SHARED = PathFacts("/shared", "/shared", exists=True, writable=True, same_content=True)


def node(number: int = 1, **bad: Any) -> NodeFacts:
    """A node of which nothing is wrong but what is given."""
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
    )
    return replace(good, **bad)


def problems(*facts: NodeFacts, reach: Reach = GUARDED) -> list[Finding]:
    """Findings that are not ok; that each has its place and its fix is checked here."""
    found = [finding for finding in diagnose(facts, reach) if finding.severity != "ok"]
    assert all(finding.what and finding.where and finding.fix for finding in found)
    return found


def the_problem(*facts: NodeFacts, reach: Reach = GUARDED) -> tuple[str, str, str]:
    """Severity, what and where of the only one."""
    (found,) = problems(*facts, reach=reach)
    return found.severity, found.what, found.where


def versions(**other: str | None) -> dict[str, str | None]:
    return VERSIONS | other


def test_a_healthy_cluster_has_no_problems_and_says_what_was_checked() -> None:
    assert problems(node(1), node(2)) == []
    said = " ".join(finding.what for finding in diagnose([node(1), node(2)], GUARDED))
    for part in ("answers", "asks for a token", "loopback", "ray: 2.60.0", "/shared", "GPUs", "clocks"):
        assert part in said


def test_a_silent_node_is_a_finding_and_none_of_its_facts_is_taken_for_true() -> None:
    silent = NodeFacts("000002abc", "10.0.0.2", "host-2", is_head=False, ray_gpus=8.0, problem="no answer within 60 s")
    severity, what, where = the_problem(node(1), silent)
    assert severity == "error"
    assert "no answer within 60 s" in what
    assert where == silent.name


@given(st.integers(100, 599))
def test_every_answer_but_a_refusal_means_an_open_dashboard(status: int) -> None:
    found = problems(node(), reach=Reach("10.0.0.1:8265", status, 200))
    opened = [f for f in found if "CVE-2023-48022" in f.what and f.severity == "error" and f.where == "10.0.0.1:8265"]
    assert bool(opened) == (status not in (401, 403))


def test_a_dashboard_that_is_silent_or_refuses_our_token_is_a_warning_and_none_at_all_is_fine() -> None:
    severity, what, _ = the_problem(node(), reach=Reach("10.0.0.1:8265"))
    assert (severity, "unknown" in what) == ("warning", True)
    severity, what, _ = the_problem(node(), reach=Reach("10.0.0.1:8265", 401, 403))
    assert (severity, "refuses the token" in what) == ("warning", True)
    assert problems(node(), reach=Reach()) == []


@pytest.mark.parametrize(("reach", "severity"), [(GUARDED, "warning"), (OPEN, "error")])
def test_a_dashboard_beyond_loopback(reach: Reach, severity: str) -> None:
    bound = node(listeners=(Listener("dashboard", "0.0.0.0", 8265),))
    found = [finding for finding in problems(bound, reach=reach) if "beyond loopback" in finding.what]
    assert [(f.severity, f.where) for f in found] == [(severity, "10.0.0.1:8265")]
    # Another port of the same process serves metrics.
    other = node(listeners=(Listener("dashboard", "0.0.0.0", 44227),))
    assert not [f for f in problems(other, reach=reach) if "the dashboard listens" in f.what]


@pytest.mark.parametrize("component", ["gcs_server", "raylet", "metrics agent", "worker", "autoscaler"])
@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.1"])
def test_ports_beyond_loopback_are_named_with_a_fix_that_works(component: str, address: str) -> None:
    (found,) = problems(node(listeners=(Listener(component, address, 6379),)))
    assert found.severity == "warning"
    assert found.where == f"{component} 10.0.0.1:6379"
    assert "firewall" in found.fix
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0" in found.fix


def test_what_open_ports_allow_depends_on_the_token_and_on_whose_they_are() -> None:
    bound = node(listeners=(Listener("raylet", "0.0.0.0", 1), Listener("autoscaler", "0.0.0.0", 2)))
    with_token = {finding.what for finding in problems(bound)}
    without = {finding.what for finding in problems(bound, reach=OPEN)}
    assert not any("can run code" in what for what in with_token)
    assert any("ports" in what and "can run code" in what for what in without)
    assert len([what for what in with_token if "metrics for anyone" in what]) == 1
    _, what, where = the_problem(node(listeners=(Listener("serve proxy", "0.0.0.0", 8000),)))
    assert "API keys" in what
    assert where == "serve proxy 10.0.0.1:8000"


def test_many_ports_are_cut_short() -> None:
    ports = tuple(Listener("worker", "0.0.0.0", 10000 + number) for number in range(100))
    _, _, where = the_problem(node(listeners=ports))
    assert where.endswith(" and 96 more")


@given(st.integers(0, 0o777), st.booleans())
def test_a_token_file_is_its_owners_alone(mode: int, exposed: bool) -> None:
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
def test_rays_before_2_54_take_deletes_from_anyone(major: int, minor: int, rest: str) -> None:
    found = problems(node(versions=versions(ray=f"{major}.{minor}{rest}")))
    assert [finding.severity for finding in found] == (["error"] if (major, minor) < (2, 54) else [])
    assert all("CVE-2026-27482" in finding.what for finding in found)


@pytest.mark.parametrize(
    ("seen", "severity", "part"),
    [
        (replace(SHARED, exists=False, writable=False, same_content=False), "error", "/shared is not there"),
        (replace(SHARED, same_content=False), "error", "/shared holds something else"),
        (replace(SHARED, writable=False), "warning", "/shared cannot be written"),
    ],
)
def test_a_path_that_a_node_does_not_share(seen: PathFacts, severity: str, part: str) -> None:
    bad = node(2, paths=(seen,))
    found, what, where = the_problem(node(1), bad)
    assert (found, part in what, where) == (severity, True, bad.name)


@given(st.integers(0, 16), st.integers(0, 16), st.integers(0, 16))
def test_gpus_are_those_that_the_driver_shows(ray: int, driver: int, pci: int) -> None:
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
def test_a_clock_is_off_only_by_what_the_round_trip_does_not_explain(offset_s: float, uncertainty_s: float) -> None:
    found = problems(node(clock_offset_s=offset_s, clock_uncertainty_s=uncertainty_s))
    skew = abs(offset_s) - uncertainty_s
    expected = ["error"] if skew > 30 else ["warning"] if skew > 1 else []
    assert [finding.severity for finding in found] == expected


def test_a_clock_that_was_not_read_is_not_off() -> None:
    assert problems(node(clock_offset_s=None)) == []


def test_the_same_finding_on_many_nodes_is_one_and_errors_come_first() -> None:
    facts = [node(number, token_mode=0o644, ray_gpus=9.0) for number in range(1, 5)]
    found = diagnose(facts, GUARDED)
    assert [finding.severity for finding in found[:3]] == ["error", "warning", "ok"]
    assert all(fact.name in finding.where for fact in facts for finding in found[:2])


def test_the_table_names_every_problem_its_place_and_its_fix() -> None:
    table = findings_table(diagnose([node(1), node(2, driver_gpus=0)], OPEN))
    assert table.startswith("error    the dashboard answers without a token")
    assert "  where  10.0.0.2 (host-2, node 000002)\n  fix    Install the NVIDIA driver" in table
    assert table.endswith("errors: 2, warnings: 0, ok: 10")
    assert max(map(len, table.splitlines())) <= 120
