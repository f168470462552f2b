"""A private Ray that one process starts for itself, without idle services, and that ends with the process."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tuneyard.core.errors import ClusterError
from tuneyard.core.ports import free_port

if TYPE_CHECKING:
    import psutil

LOOPBACK_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's variable: with "0", Ray's processes listen on 127.0.0.1, on Linux too."""

ENVIRONMENT = {
    # No other machine is to join.
    LOOPBACK_ONLY: "0",
    # Metrics: a private Ray has no dashboard to show them, and collecting them costs the workers CPU time.
    "RAY_enable_metrics_collection": "0",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    # Cloud providers announce preemption; this machine is not preempted.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # With HAProxy or RAY_SERVE_THROUGHPUT_OPTIMIZED, a replica that ends waits 30 s for load balancers outside Ray to
    # notice. A private Ray has none; its own proxies are told at once.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
    # Serve kills a proxy that has not answered for three times as long. With Serve's own 5 s, a machine that is busy
    # while the proxy imports its packages starts one after another.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",
}
"""Environment variables that a private Ray's processes inherit, unless they are set already."""

NODE_TYPES = {"train": 1024.0, "serve": 1024.0}
"""Custom resources of a private Ray. On a cluster only nodes with the image for that work have them."""

EXIT_TIMEOUT_S = 10.0
"""Seconds to wait for Ray's child processes before killing them. Healthy ones end within two seconds."""


def start_private_ray(*, log_monitor: bool, job_server: bool = False, **options: Any) -> None:
    """Calls `ray.init(address="local")` with the options and stops Ray's services that a private Ray does not need.

    `log_monitor`: whether the driver prints the workers' logs. `job_server`: whether jobs can be submitted, at a free
    port of the loopback interface. Raises ClusterError when Ray is not ready in time.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray
    from ray._private import ray_constants, worker

    # Ray reads this variable when it is imported, which may have been before.
    ray_constants.ENABLE_RAY_CLUSTER = os.environ[LOOPBACK_ONLY] == "1"
    if job_server:
        options |= {"dashboard_host": "127.0.0.1", "dashboard_port": free_port()}
    try:
        with _any_agent_port() if job_server else contextlib.nullcontext():
            ray.init(address="local", include_dashboard=job_server, resources=NODE_TYPES, **options)
    except Exception as e:
        # Ray raises a bare Exception when its processes are not ready after 30 s.
        if "timed out during startup" not in str(e):
            raise
        raise ClusterError(
            "Ray was not ready 30 s after its start. This machine is too busy; start again when it has free CPU time."
        ) from e
    # Together these services take 120 MiB, and they wake up on the workers' cores.
    node = worker._global_node
    node.kill_monitor(check_alive=False)  # the autoscaler
    if not job_server:
        node.kill_dashboard(check_alive=False)  # runs even with include_dashboard=False, without a page
    if not log_monitor:
        node.kill_log_monitor(check_alive=False)  # reads all logs ten times a second


@contextlib.contextmanager
def _any_agent_port() -> Iterator[None]:
    """Within this context, Ray's agent, which starts jobs, listens on a free port. `ray.init` has no option for it, and
    by default the agents of all Rays of a machine want the same port: a second Ray then takes no jobs (Ray 2.60)."""
    from ray._private import parameter

    original = parameter.RayParams
    parameter.RayParams = functools.partial(original, dashboard_agent_listen_port=0)
    try:
        yield
    finally:
        parameter.RayParams = original


def is_private_ray() -> bool:
    """Whether this process started the connected Ray, which then ends with the process."""
    from ray._private import worker

    return worker._global_node is not None and bool(worker._global_node.is_head())


@contextlib.contextmanager
def killing_leftover_processes() -> Iterator[None]:
    """Shut the private Ray down within this context: at its end, processes that Ray left behind are killed.

    Without it an actor may hang in its exit forever after Ray counted it as ended (Ray 2.60: TrainController, in
    ~Publisher).
    """
    import psutil

    processes = private_ray_processes() if is_private_ray() else []
    try:
        yield
        deadline = time.monotonic() + EXIT_TIMEOUT_S
        while any(map(_is_running, processes)) and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def _is_running(process: psutil.Process) -> bool:
    import psutil

    try:
        # In containers whose first process does not reap children, ended processes remain as zombies.
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def private_ray_processes() -> list[psutil.Process]:
    """Every process that the connected private Ray runs for jobs: workers, actors and their children."""
    import psutil
    from ray._private import worker

    children: list[psutil.Process] = []
    for raylet in worker._global_node.all_processes.get("raylet", []):
        with contextlib.suppress(psutil.NoSuchProcess):
            children += psutil.Process(raylet.process.pid).children(recursive=True)
    return children
