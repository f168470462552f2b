"""Kills one worker of a run on a private Ray, as a node that fails would."""

from __future__ import annotations

import contextlib

import psutil

WORKER_TITLE = "RayTrainWorker"
"""What the title of a Ray Train worker's process holds."""


def kill_one_worker() -> bool:
    """Kills a worker process of this process's private Ray without warning. Returns whether there was one."""
    # Not those of the private Ray alone: forked workers are children of the fork server.
    for process in reversed(psutil.Process().children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            if WORKER_TITLE in " ".join(process.cmdline()):
                process.kill()
                return True
    return False
