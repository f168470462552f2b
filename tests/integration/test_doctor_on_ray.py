"""The doctor on a real Ray cluster of two nodes without a token and without shared storage: findings and fixes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.processes import CHECKOUT, free_port, running

pytestmark = pytest.mark.integration

# On the second node STORE is another folder, as if storage were not shared.
START_CLUSTER = """
import sys, time
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": True, "dashboard_port": int(sys.argv[1])})
cluster.add_node(env_vars={"STORE": sys.argv[2]})
print("address", cluster.address, flush=True)
time.sleep(3600)
"""


@dataclass(frozen=True)
class OpenCluster:
    """The environment of a driver on the cluster, and the dashboard's address."""

    environment: dict[str, str]
    dashboard: str


@pytest.fixture(scope="module")
def open_cluster() -> Iterator[OpenCluster]:
    """Two nodes without a token. Their folder has a short path, because Ray's sockets in it have long names."""
    folder = Path(tempfile.mkdtemp(prefix="doc", dir="/tmp"))
    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(folder))
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("STORE", str(folder / "store"))
        (folder / "store").mkdir()
        (folder / "other").mkdir()
        try:
            with running(folder, folder / "home", "-c", START_CLUSTER, str(port), str(folder / "other")) as head:
                head.wait_for(lambda: "address " in head.output, "cluster")
                address = head.output.split("address ")[1].split()[0]
                python_path = os.pathsep.join([str(CHECKOUT / "platform"), str(CHECKOUT)])
                environment = os.environ | {"RAY_ADDRESS": address, "PYTHONPATH": python_path}
                yield OpenCluster(environment, f"127.0.0.1:{port}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def run_doctor(cluster: OpenCluster, *arguments: str) -> tuple[int, str]:
    """Runs the doctor as a driver on the cluster; returns its exit code and its output."""
    command = [sys.executable, "-W", "ignore", "-m", "tuneyard.doctor.cluster_doctor", *arguments]
    finished = subprocess.run(
        command, cwd=CHECKOUT, env=cluster.environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert finished.stdout, finished.stderr
    return finished.returncode, finished.stdout


def test_findings_on_an_open_cluster_without_shared_storage(open_cluster: OpenCluster, tmp_path: Path) -> None:
    shared = tmp_path / "shared folder"
    shared.mkdir()
    weights = shared / "weights"
    weights.write_bytes(b"the same for all")
    paths = ("--path", "$STORE", "--path", str(shared), "--path", str(weights))
    code, output = run_doctor(open_cluster, "--json", *paths)
    assert code == 1
    report = json.loads(output)
    findings: list[dict[str, Any]] = report["findings"]

    def select(severity: str, text: str) -> list[dict[str, Any]]:
        return [finding for finding in findings if finding["severity"] == severity and text in finding["what"]]

    head, second = report["nodes"]
    assert (head["is_head"], second["is_head"], head["problem"], second["problem"]) == (True, False, "", "")
    # A folder that only the head has.
    (not_shared,) = select("error", "$STORE")
    assert second["node_id"][:6] in not_shared["where"]
    assert head["node_id"][:6] not in not_shared["where"]
    for path in (shared, weights):
        assert select("ok", f"{path} is the same")
    assert [p.name for p in shared.iterdir()] == ["weights"], "the doctor left its marker file"
    # The dashboard is open but listens on loopback only; other ports listen beyond it.
    (dashboard,) = select("error", "the dashboard answers without a token")
    assert dashboard["where"] == open_cluster.dashboard
    assert "RAY_AUTH_MODE=token" in dashboard["fix"]
    assert not [finding for finding in findings if "the dashboard listens" in finding["what"]]
    (calls,) = select("warning", "ports beyond loopback: anyone who reaches them can run code")
    assert all(component in calls["where"] for component in ("gcs_server", "raylet", "metrics agent", "worker"))
    ports = {node["node_id"]: {port["port"] for port in node["listeners"]} for node in report["nodes"]}
    assert not set.intersection(*ports.values()), "a port is listed for both nodes"
    # Both nodes are on one machine: their clocks and software are the same.
    assert all(abs(node["clock_offset_s"]) <= node["clock_uncertainty_s"] + 0.1 for node in report["nodes"])
    assert select("ok", "clocks agree")
    assert select("ok", "ray: ")
    assert select("ok", "every node answers")


def test_the_default_output_is_a_table(open_cluster: OpenCluster) -> None:
    code, output = run_doctor(open_cluster)
    assert code == 1
    assert output.startswith("error    the dashboard answers without a token")
    assert "\n  fix    Make a token with `ray get-auth-token --generate`" in output
    assert output.splitlines()[-1].startswith("errors: 1, warnings: ")
