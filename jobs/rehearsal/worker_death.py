"""Kills one worker of a run on a private Ray, as a node that fails would."""

from __future__ import annotations

import contextlib

import psutil

from tuneyard.cluster.private_ray import private_ray_processes

WORKER_TITLE = "RayTrainWorker"
"""What the title of a Ray Train worker's process holds."""


def kill_one_worker() -> bool:
    """Kills a worker process without warning. Returns whether there was one."""
    for process in reversed(private_ray_processes()):
        with contextlib.suppress(psutil.Error):
            if WORKER_TITLE in " ".join(process.cmdline()):
                process.kill()
                return True
    return False
