"""The doctor on a real Ray cluster of two nodes, open and without shared storage: it says so, and what the fix is."""

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

# STORE is another folder on the second node, as an unshared disk would be.
HEAD = """
import sys, time
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": True, "dashboard_port": int(sys.argv[1])})
cluster.add_node(env_vars={"STORE": sys.argv[2]})
print("address", cluster.address, flush=True)
time.sleep(3600)
"""


@dataclass(frozen=True)
class OpenCluster:
    """What a driver on it needs, and where its dashboard is."""

    environment: dict[str, str]
    dashboard: str


@pytest.fixture(scope="module")
def open_cluster() -> Iterator[OpenCluster]:
    """Two nodes of Ray without a token, in a folder of their own, short enough for Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="doc", dir="/tmp"))
    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(folder))
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("STORE", str(folder / "store"))
        (folder / "store").mkdir()
        (folder / "other").mkdir()
        try:
            with running(folder, folder / "home", "-c", HEAD, str(port), str(folder / "other")) as head:
                head.wait_for(lambda: "address " in head.output, "cluster")
                address = head.output.split("address ")[1].split()[0]
                python_path = os.pathsep.join([str(CHECKOUT / "platform"), str(CHECKOUT)])
                environment = os.environ | {"RAY_ADDRESS": address, "PYTHONPATH": python_path}
                yield OpenCluster(environment, f"127.0.0.1:{port}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def doctor(cluster: OpenCluster, *arguments: str) -> tuple[int, str]:
    """Exit code and output of the doctor as a driver on the cluster."""
    command = [sys.executable, "-W", "ignore", "-m", "tuneyard.doctor.cluster_doctor", *arguments]
    done = subprocess.run(
        command, cwd=CHECKOUT, env=cluster.environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout, done.stderr
    return done.returncode, done.stdout


def test_an_open_cluster_without_shared_storage_is_found_out(open_cluster: OpenCluster, tmp_path: Path) -> None:
    shared = tmp_path / "shared folder"
    shared.mkdir()
    weights = shared / "weights"
    weights.write_bytes(b"the same for all")
    paths = ("--path", "$STORE", "--path", str(shared), "--path", str(weights))
    code, output = doctor(open_cluster, "--json", *paths)
    assert code == 1
    told = json.loads(output)
    findings: list[dict[str, Any]] = told["findings"]

    def found(severity: str, *parts: str) -> list[dict[str, Any]]:
        of_it = [finding for finding in findings if finding["severity"] == severity]
        return [finding for finding in of_it if all(part in finding["what"] for part in parts)]

    head, second = told["nodes"]
    assert (head["is_head"], second["is_head"], head["problem"], second["problem"]) == (True, False, "", "")
    # What only one node sees.
    (unseen,) = found("error", "$STORE")
    assert second["node_id"][:6] in unseen["where"]
    assert head["node_id"][:6] not in unseen["where"]
    for path in (shared, weights):
        assert found("ok", f"{path} is the same")
    assert [p.name for p in shared.iterdir()] == ["weights"], "the marker stays behind"
    # The open dashboard, which listens on loopback only; the ports that do not.
    (dashboard,) = found("error", "the dashboard answers without a token")
    assert dashboard["where"] == open_cluster.dashboard
    assert "RAY_AUTH_MODE=token" in dashboard["fix"]
    assert not [finding for finding in findings if "the dashboard listens" in finding["what"]]
    (calls,) = found("warning", "ports beyond loopback: anyone who reaches them can run code")
    assert all(component in calls["where"] for component in ("gcs_server", "raylet", "metrics agent", "worker"))
    ports = {node["node_id"]: {port["port"] for port in node["listeners"]} for node in told["nodes"]}
    assert not set.intersection(*ports.values()), "each port belongs to one node"
    # One machine: one clock, the same software.
    assert all(abs(node["clock_offset_s"]) <= node["clock_uncertainty_s"] + 0.1 for node in told["nodes"])
    assert found("ok", "clocks agree")
    assert found("ok", "ray: ")
    assert found("ok", "every node answers")


def test_people_get_a_table(open_cluster: OpenCluster) -> None:
    code, output = doctor(open_cluster)
    assert code == 1
    assert output.startswith("error    the dashboard answers without a token")
    assert "\n  fix    Make a token with `ray get-auth-token --generate`" in output
    assert output.splitlines()[-1].startswith("errors: 1, warnings: ")
