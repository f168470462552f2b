"""Autoscaled nodes: a run waits until Ray's autoscaler adds a node for it; afterwards the idle node is removed."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray._private.services import get_node_ip_address

from tests.integration.clusters import Cluster, cluster
from tests.integration.conftest import write_finetune_config
from tests.integration.processes import CHECKOUT, free_port, run
from tuneyard.cluster.job_client import job_client, list_node_resources

pytestmark = pytest.mark.integration
HEAD_ID = "f" * 51 + "00000"
"""The node id that the provider expects of the head."""


def launcher_config(port: int) -> dict[str, Any]:
    """The autoscaler's config for Ray's provider `fake_multinode`, whose nodes are raylets on this machine.

    For version 1 of the autoscaler. `port` is the head's port.
    """
    worker = {"resources": {"CPU": 2, "object_store_memory": 200 * 2**20}, "node_config": {}}
    empty_lists = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")
    empty_lists += ("head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files")
    return {
        "cluster_name": "fake_multinode",
        "max_workers": 2,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 0.1,
        "provider": {
            "type": "fake_multinode",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "gcs_address": f"{get_node_ip_address()}:{port}",
            "launch_multiple": True,
            "head_node_id": HEAD_ID,
        },
        "auth": {"ssh_user": "nobody"},
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "cpu": worker | {"min_workers": 0, "max_workers": 2},
        },
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        **{name: [] for name in empty_lists},
    }


@pytest.fixture
def empty_cluster(tmp_path: Path) -> Iterator[tuple[Cluster, str]]:
    """A head without CPUs, and its address for drivers."""
    port = free_port()
    path = tmp_path / "launcher.json"
    path.write_text(json.dumps(launcher_config(port)))
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_FAKE_CLUSTER", "1")
        patch.setenv("RAY_OVERRIDE_NODE_ID_FOR_TESTING", HEAD_ID)
        # Nodes inherit the head's environment. Without a submitted job, nothing else gives them the modules.
        patch.setenv("PYTHONPATH", f"{CHECKOUT}:{CHECKOUT / 'platform'}")
        nodes = stack.enter_context(cluster(tmp_path, port, "--autoscaling-config", str(path)))
        patch.delenv("RAY_OVERRIDE_NODE_ID_FOR_TESTING")
        yield nodes, f"{get_node_ip_address()}:{port}"


def total_cpus(nodes: Cluster) -> float:
    """The CPUs of all living nodes."""
    with job_client(nodes.address) as client:
        return sum(node.get("CPU", 0) for node in list_node_resources(client))


def test_a_node_is_added_for_the_run_and_removed_after_it(
    empty_cluster: tuple[Cluster, str], tiny_oss: Path, tmp_path: Path
) -> None:
    nodes, address = empty_cluster
    config = write_finetune_config(tmp_path, tiny_oss, max_steps=4)
    assert total_cpus(nodes) == 0
    command = ("-m", "jobs.finetune", "--config", str(config), "--address", address)
    code, output = run(tmp_path, nodes.home, *command)
    assert code == 1
    assert "CPU: 2 needed, 0 available" in output
    assert "--set workers.wait_for_nodes=true" in output
    code, output = run(tmp_path, nodes.home, *command, "--set", "workers.wait_for_nodes=true")
    assert code == 0, output
    assert "waiting for nodes: CPU: 2 needed, 0 available" in output
    assert "registered tiny-support/1 (@newest)" in output
    deadline = time.monotonic() + 90
    while total_cpus(nodes):
        assert time.monotonic() < deadline, "the idle node was not removed"
        time.sleep(1)
