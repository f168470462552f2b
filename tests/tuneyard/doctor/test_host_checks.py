"""The machines of a cluster: driver, /dev/shm, their own names, NCCL's interface."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.doctor.findings import Finding
from tuneyard.doctor.host_checks import check_hosts, interfaces_for_nccl
from tuneyard.doctor.local_host import host_facts
from tuneyard.doctor.node_facts import HostFacts, NodeFacts

INTERFACES = {"lo": ("127.0.0.1",), "eth0": ("10.0.0.1",), "docker0": ("172.17.0.1",), "ib0": ()}


def node(number: int = 1, **bad: Any) -> NodeFacts:
    """A GPU node that is well, except for the given facts of its machine."""
    host = HostFacts("580.65.06", 8 << 30, (f"10.0.0.{number}",), INTERFACES)
    name = f"host-{number}"
    facts = NodeFacts(f"{number:06d}", f"10.0.0.{number}", name, is_head=number == 1, ray_gpus=8.0, driver_gpus=8)
    return replace(facts, host=replace(host, **bad))


def problems(*facts: NodeFacts) -> list[Finding]:
    found = [finding for finding in check_hosts(facts) if finding.severity != "ok"]
    assert all(finding.what and finding.where and finding.fix for finding in found)
    return found


def test_good_machines_are_ok_and_machines_without_gpus_need_no_driver() -> None:
    assert problems(node(1), node(2)) == []
    assert len(list(check_hosts([node(1), node(2)]))) == 3
    bare = replace(node(1, driver_version=None, shared_memory_bytes=64 << 20), driver_gpus=0)
    assert problems(bare) == []


@given(st.integers(300, 999), st.integers(0, 999))
def test_a_driver_before_580_cannot_run_cuda_13(major: int, minor: int) -> None:
    found = problems(node(driver_version=f"{major}.{minor}"))
    assert [finding.severity for finding in found] == (["error"] if major < 580 else [])


@given(st.integers(0, 4 << 30))
def test_shared_memory_below_a_gib_is_an_error(size: int) -> None:
    assert bool(problems(node(shared_memory_bytes=size))) == (size < 1 << 30)


@pytest.mark.parametrize("addresses", [("127.0.1.1",), ("127.0.0.1", "127.0.1.1"), ()])
def test_a_name_that_others_do_not_reach_is_found_on_several_machines_only(addresses: tuple[str, ...]) -> None:
    bad = node(2, name_addresses=addresses)
    (found,) = problems(node(1), bad)
    assert found.where == bad.name
    assert "10.0.0.2" in found.fix
    assert problems(bad) == []
    if addresses:
        assert problems(node(1), node(2, name_addresses=addresses, gloo_interface="eth0")) == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("eth", ["eth0"]),
        ("=eth", []),
        ("=eth0,ib0", ["eth0", "ib0"]),
        ("^lo,docker", ["eth0", "ib0"]),
        ("^=lo", ["eth0", "docker0", "ib0"]),
        ("eth0:1", ["eth0"]),
    ],
)
def test_ncclss_prefixes_exact_names_and_exclusions(value: str, expected: list[str]) -> None:
    assert interfaces_for_nccl(value, list(INTERFACES)) == expected


@pytest.mark.parametrize("variable", ["nccl_interface", "gloo_interface"])
def test_an_interface_that_does_not_exist_or_reaches_nobody_is_an_error(variable: str) -> None:
    (missing,) = problems(node(**{variable: "ens5"}))
    assert "names none of the node's interfaces: docker0, eth0, ib0, lo" in missing.what
    (loopback,) = problems(node(1), node(2, **{variable: "lo"}))
    assert "selects only loopback" in loopback.what
    assert problems(node(**{variable: "lo"})) == []
    assert problems(node(1), node(2, **{variable: "eth0"})) == []


def test_the_facts_of_this_machine(tmp_path: Path) -> None:
    module = tmp_path / "version"
    module.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (builder@x)  Sun Jul 27\n"
        "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n"
    )
    facts = HostFacts(**host_facts(module))
    assert facts.driver_version == "580.65.06"
    assert facts.shared_memory_bytes > 0
    assert "127.0.0.1" in facts.interfaces["lo"]
    assert all(socket.inet_aton(address) for address in facts.name_addresses)
