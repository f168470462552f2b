"""A Ray that one process starts for itself, on the cores that its workers need: lean, and gone with that process."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any

import psutil

ENVIRONMENT = {
    # Ray would listen on the machine's address, though nobody is to join.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Nobody can ask for these, for it has no dashboard; each of its processes gathers them on the workers' cores.
    "RAY_enable_metrics_collection": "0",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    # This machine is not taken away with notice.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
"""What its processes inherit, unless the environment says otherwise."""

EXIT_S = 10.0
"""A process of a Ray that has ended hangs after so long: others need one or two seconds."""


def start_private_ray(*, log_monitor: bool, **options: Any) -> None:
    """`ray.init` with the options; `log_monitor` says whether the driver shows the workers' logs."""
    import ray
    from ray._private import worker

    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    ray.init(address="local", include_dashboard=False, **options)
    # What Ray starts and a private one has no use for: some 120 MiB, and wake-ups on the workers' cores.
    node = worker._global_node
    node.kill_monitor(check_alive=False)  # the autoscaler's
    node.kill_dashboard(check_alive=False)  # runs without a page when none was asked for
    if not log_monitor:
        node.kill_log_monitor(check_alive=False)  # reads all logs ten times a second


def is_private_ray() -> bool:
    """Whether the connected Ray was started by this process, and ends with it."""
    from ray._private import worker

    return worker._global_node is not None and bool(worker._global_node.is_head())


@contextlib.contextmanager
def no_process_left() -> Iterator[None]:
    """Ray ends within; then so does whatever its raylet had started and hangs.

    An actor may lock itself up in its exit, which Ray took for done (2.60, TrainController in ~Publisher).
    """
    started = _under_raylet() if is_private_ray() else []
    try:
        yield
        deadline = time.monotonic() + EXIT_S
        while any(map(_is_running, started)) and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        for process in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def _is_running(process: psutil.Process) -> bool:
    try:
        # Where the first process reaps nobody, as in some containers, the dead stay zombies.
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _under_raylet() -> list[psutil.Process]:
    from ray._private import worker

    raylets = worker._global_node.all_processes.get("raylet", [])
    found: list[psutil.Process] = []
    for raylet in raylets:
        with contextlib.suppress(psutil.NoSuchProcess):
            found += psutil.Process(raylet.process.pid).children(recursive=True)
    return found
