"""Secrets of a job on a real Ray cluster: its driver and its workers have them, and nothing that Ray shows does."""

from __future__ import annotations

import hashlib
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.clusters import Cluster, cluster
from tests.integration.processes import run

pytestmark = pytest.mark.integration

SECRETS = {"AWS_SECRET_ACCESS_KEY": "wJalr/XUtnFEMI+K7MDENG", "HF_TOKEN": "hf_" + "q" * 34}

JOB = """
import hashlib, os, sys
from tuneyard.cluster.connection import connect_ray
from tuneyard.core.command import run_command

def digest():
    return hashlib.sha256((os.environ["AWS_SECRET_ACCESS_KEY"] + os.environ["HF_TOKEN"]).encode()).hexdigest()

def action():
    import ray
    connect_ray()
    print("driver", digest())
    print("worker", ray.get(ray.remote(num_cpus=1)(digest).remote()))

sys.exit(run_command(action))
"""

SUBMIT = """
import json, shlex, sys, time
from tuneyard.cluster.job_client import job_client, submit_job
from tuneyard.cluster.job_environment import job_environment

with job_client(sys.argv[1]) as client:
    command = shlex.join(["python", "-c", sys.argv[2]])
    job = submit_job(client, command, job_environment(sys.argv[1]), {"run": "secrets"})
    while not client.get_job_status(job).is_terminal():
        time.sleep(0.5)
    print(client.get_job_logs(job))
    print("shown:", [str(details) for details in client.list_jobs()], client.get_job_info(job))
"""


RUNNER = """
import asyncio, sys
from pathlib import Path
from serve_apps.platform_app.fine_tuning.execution.ray_job_runner import RayJobRunner
from tuneyard.cluster.connection import connect_ray
from tuneyard.cluster.job_client import job_client, own_job_server
from tuneyard.core.command import run_command

folder, run_id = Path({folder!r}), "ftjob-1-1"

async def execute():
    runner = RayJobRunner({{"WANDB_API_KEY": (folder / "key").read_text(), "PATH": f"{{folder}}:/usr/bin:/bin"}})
    await runner.submit(run_id, "{{}}")
    while not (await runner.find(run_id)).state.is_over:
        await asyncio.sleep(0.5)

def action():
    connect_ray()
    asyncio.run(execute())
    with job_client(own_job_server()) as client:
        print(client.get_job_logs(run_id))

sys.exit(run_command(action))
"""

REPORT = """
import hashlib, os
from tuneyard.core.job_secrets import load_job_secrets
load_job_secrets()
print("run", hashlib.sha256(os.environ["WANDB_API_KEY"].encode()).hexdigest(), os.environ["TUNEYARD_CONFIG"])
"""
"""What runs in place of `python -m jobs.finetune`."""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that was started without any secret."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (*SECRETS, "WANDB_API_KEY"):
            patch.delenv(name, raising=False)
        with cluster(tmp_path_factory.mktemp("cluster")) as nodes:
            nodes.join("worker")
            yield nodes


def test_a_jobs_processes_have_the_secrets_and_ray_shows_none(
    nodes: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    code, output = run(tmp_path, tmp_path / "home", "-c", SUBMIT, nodes.address, JOB)
    assert code == 0, output
    digest = hashlib.sha256("".join(SECRETS.values()).encode()).hexdigest()
    assert f"driver {digest}" in output
    assert f"worker {digest}" in output
    shown = output.partition("shown:")[2]
    assert "TUNEYARD_HOME" in shown
    assert "gcs://_ray_pkg_" in shown
    assert not [value for value in SECRETS.values() if value in output]


def test_a_fine_tuning_job_has_the_secrets_of_its_deployment_and_ray_shows_none(nodes: Cluster, tmp_path: Path) -> None:
    """The deployment's process was given the key, which is in no environment of the cluster's nodes."""
    key = "wandb" + "k" * 35
    (tmp_path / "key").write_text(key, encoding="utf-8")
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\nexec {shlex.join([sys.executable, '-c', REPORT])}\n", encoding="utf-8")
    program.chmod(0o755)
    code, output = run(tmp_path, tmp_path / "home", "-c", SUBMIT, nodes.address, RUNNER.format(folder=str(tmp_path)))
    assert code == 0, output
    assert f"run {hashlib.sha256(key.encode()).hexdigest()} {{}}" in output
    shown = output.partition("shown:")[2]
    assert "ftjob-1-1" in shown
    assert key not in output
