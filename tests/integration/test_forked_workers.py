"""A private Ray whose workers are forks of a process with imported modules: they die and are replaced as others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.processes import run

pytestmark = pytest.mark.integration

USE_FORKS = """
import json, os, signal, sys
from pathlib import Path
import psutil
import ray
from jobs.rehearsal.worker_processes.server_process import ForkServer
from tuneyard.cluster.connection import connect_ray, disconnect_ray, export_python_path

export_python_path()
found = {}
with ForkServer(Path(sys.argv[1]), ["this"]) as server:
    connect_ray("local", worker_python=server.worker_python)
    server.wait_until_ready()

    @ray.remote(num_cpus=0)
    class Worker:
        def facts(self):
            return {"pid": os.getpid(), "parent": os.getppid(), "imported": "this" in sys.modules}

    # Environment variables of an actor reach its fork.
    @ray.remote(num_cpus=0, runtime_env={"env_vars": {"OF_THE_TASK": "yes"}})
    def variable():
        return os.environ.get("OF_THE_TASK"), "this" in sys.modules

    workers = [Worker.remote() for _ in range(2)]
    facts = ray.get([worker.facts.remote() for worker in workers])
    found["imported"] = [fact["imported"] for fact in facts]
    found["one_parent"] = len({fact["parent"] for fact in facts}) == 1
    found["parent_is_no_ray"] = "fork_server" in " ".join(psutil.Process(facts[0]["parent"]).cmdline())
    found["title"] = psutil.Process(facts[0]["pid"]).cmdline()[0]
    os.kill(facts[0]["pid"], signal.SIGKILL)
    try:
        ray.get(workers[0].facts.remote())
    except ray.exceptions.RayActorError:
        found["death"] = "noticed"
    # Ray kills the process group of a worker that died: that of no other.
    found["other_goes_on"] = ray.get(workers[1].facts.remote())["pid"] == facts[1]["pid"]
    found["variable"] = ray.get(variable.remote())
    new = ray.get(Worker.remote().facts.remote())
    found["new_worker"] = new["parent"] == facts[0]["parent"] and new["imported"]
    children = psutil.Process().children(recursive=True)
    disconnect_ray()
gone, alive = psutil.wait_procs(children, timeout=30)
found["alive"] = [process.pid for process in alive if process.status() != psutil.STATUS_ZOMBIE]
print(json.dumps(found))
"""


def test_forks_are_rays_workers(tmp_path: Path) -> None:
    code, output = run(tmp_path, tmp_path / "home", "-c", USE_FORKS, str(tmp_path / "forks"))
    assert code == 0, output
    assert json.loads(output.splitlines()[-1]) == {
        "imported": [True, True],
        "one_parent": True,
        "parent_is_no_ray": True,
        "title": "ray::Worker",
        "death": "noticed",
        "other_goes_on": True,
        "variable": ["yes", True],
        "new_worker": True,
        "alive": [],
    }
