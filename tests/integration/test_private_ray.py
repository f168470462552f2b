"""A private Ray takes no more than its job needs, and leaves nothing behind."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil
import pytest

from tests.integration.processes import run

pytestmark = pytest.mark.integration

HANGING = """
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
# Ray takes it for ended before it is.
while any(found["State"] != "DEAD" for found in ray._private.state.actors().values()):
    time.sleep(0.1)
print("pid", pid, os.path.exists(f"/proc/{pid}"))
"""


def test_an_actor_that_hangs_in_its_exit_does_not_outlive_the_command(tmp_path: Path) -> None:
    code, output = run(tmp_path, tmp_path / "home", "-c", HANGING)
    assert code == 0, output
    _, pid, was_alive = output.split()[-3:]
    assert was_alive == "True", "it did not hang, so this test shows nothing"
    with contextlib.suppress(psutil.NoSuchProcess):
        assert psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE
