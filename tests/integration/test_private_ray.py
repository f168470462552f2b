"""A private Ray ends with its command, even when one of its processes hangs."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import psutil
import pytest

from tests.integration.processes import run

pytestmark = pytest.mark.integration

START_HANGING_ACTOR = """
import atexit, os, time
import ray
from tuneyard.cluster.connection import connect_ray

connect_ray("local")

@ray.remote(num_cpus=0)
class Hangs:
    def __init__(self):
        atexit.register(time.sleep, 600)

    def pid(self):
        return os.getpid()

actor = Hangs.remote()
pid = ray.get(actor.pid.remote())
del actor
# Ray marks the actor as dead while its process still runs.
while any(state["State"] != "DEAD" for state in ray._private.state.actors().values()):
    time.sleep(0.1)
print("pid", pid, os.path.exists(f"/proc/{pid}"))
"""


def test_an_actor_that_hangs_in_its_exit_ends_with_the_command(tmp_path: Path) -> None:
    code, output = run(tmp_path, tmp_path / "home", "-c", START_HANGING_ACTOR)
    assert code == 0, output
    _, pid, was_alive = output.split()[-3:]
    assert was_alive == "True", "the actor did not hang, so this test proves nothing"
    with contextlib.suppress(psutil.NoSuchProcess):
        killed = psutil.Process(int(pid))
        deadline = time.monotonic() + 30  # a process that was killed needs a core to end
        while killed.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, killed.status()
            time.sleep(0.1)


LIST_PORTS = """
import psutil
from tuneyard.cluster.connection import connect_ray, disconnect_ray

connect_ray("local")
for process in psutil.Process().children(recursive=True):
    for connection in process.net_connections(kind="tcp"):
        if connection.status == psutil.CONN_LISTEN:
            print("listens", connection.laddr.ip, process.name())
disconnect_ray()
"""


def test_a_private_ray_listens_on_loopback_only(tmp_path: Path) -> None:
    code, output = run(tmp_path, tmp_path / "home", "-c", LIST_PORTS)
    assert code == 0, output
    addresses = [line.split()[1] for line in output.splitlines() if line.startswith("listens")]
    assert addresses
    assert set(addresses) <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}, output


SUBMIT_BESIDE_ANOTHER = """
import contextlib, socket, time
from tuneyard.cluster.connection import connect_ray, disconnect_ray
from tuneyard.cluster.job_client import job_client, own_job_server

agent_of_another_ray = socket.socket()
with contextlib.suppress(OSError):  # another Ray runs indeed
    agent_of_another_ray.bind(("127.0.0.1", 52365))
    agent_of_another_ray.listen()
connect_ray("local", job_server=True)
with job_client(own_job_server()) as client:
    job = client.submit_job(entrypoint="echo done")
    while not client.get_job_status(job).is_terminal():
        time.sleep(0.1)
    print(client.get_job_status(job), client.get_job_logs(job))
disconnect_ray()
"""


def test_a_private_ray_takes_jobs_where_another_ray_has_its_agents_port(tmp_path: Path) -> None:
    code, output = run(tmp_path, tmp_path / "home", "-c", SUBMIT_BESIDE_ANOTHER)
    assert code == 0, output
    assert "SUCCEEDED" in output
    assert "done" in output
