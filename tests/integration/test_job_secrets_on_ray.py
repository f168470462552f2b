"""Secrets of a job on a real Ray cluster: its driver and its workers have them, and nothing that Ray shows does."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.integration.clusters import cluster
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


def test_a_jobs_processes_have_the_secrets_and_ray_shows_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    with cluster(tmp_path / "cluster") as nodes:
        nodes.join("worker")
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
