"""This process' connection to Ray: to a running cluster, or to a private Ray that it starts."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tuneyard.cluster.auth_token import ensure_token, use_token_if_present
from tuneyard.cluster.private_ray import killing_leftover_processes, start_private_ray
from tuneyard.core.errors import ClusterError
from tuneyard.core.wording import count_of

CHECKOUT = Path(__file__).resolve().parents[3]
"""The folder that holds jobs/, serve_apps/ and ui/; the library lies in its platform/."""


def connect_ray(
    address: str | None = None, *, verbose: bool = False, job_server: bool = False, worker_python: str | None = None
) -> str:
    """Connects this process to Ray and returns a description of the cluster, for messages.

    `address` None takes the cluster in RAY_ADDRESS (set inside a job), else a cluster that runs on this machine, else
    starts a private Ray; `"local"` always starts a private Ray. `verbose` prints the logs of Ray and of the workers.
    `job_server`: whether a private Ray takes jobs, as a cluster does. `worker_python`: a shell command that starts the
    workers of a private Ray in place of this interpreter. Raises ClusterError when no cluster answers at the address.
    """
    import ray

    if ray.is_initialized():
        return f"the connected cluster {ray.get_runtime_context().gcs_address}"
    export_python_path()
    # The workers' logs are mostly warnings of libraries. What users need comes through a DriverChannel.
    options: dict[str, Any] = {"logging_level": "ERROR" if not verbose else "INFO", "log_to_driver": verbose}
    target = _resolve_address(address)
    try:
        if target == "local":
            if worker_python is not None:
                options["runtime_env"] = {"py_executable": worker_python}
            ensure_token()
            atexit.register(disconnect_ray)
            with _own_sigterm_handler():
                start_private_ray(log_monitor=verbose, job_server=job_server, **options)
            return f"a private Ray on this machine ({_resources_text()})"
        use_token_if_present()
        with _own_sigterm_handler():
            ray.init(address=target, **options)
    except (ConnectionError, ValueError, RuntimeError) as e:
        raise ClusterError(
            f"No Ray cluster answers at {target!r}: {e}. Use --address local to start a private one on this machine."
        ) from e
    gcs_address = ray.get_runtime_context().gcs_address
    nodes = sum(node["Alive"] for node in ray.nodes())
    return f"the running cluster {gcs_address} ({count_of(nodes, 'node')}, {_resources_text()})"


def disconnect_ray() -> None:
    """Disconnects from the cluster; ends a private Ray and its processes. Does nothing when not connected."""
    import ray

    with killing_leftover_processes():
        # Ray's own exit hook passes this too: it gives the driver time to print the workers' last lines.
        ray.shutdown(_exiting_interpreter=True)


def joins_cluster(address: str | None) -> bool:
    """Whether connect_ray would join a cluster, which outlives this process, and not start a private Ray."""
    return _resolve_address(address) != "local"


def _resolve_address(address: str | None) -> str:
    return address or os.environ.get("RAY_ADDRESS") or _running_cluster() or "local"


def _running_cluster() -> str | None:
    """Returns the address of the cluster that `ray start` runs on this machine; None if it does not answer.

    Ray's own `address="auto"` is not used: it also finds private Rays of other commands.
    """
    from ray._private.services import find_bootstrap_address

    address: str | None = find_bootstrap_address(None)
    if not address:
        return None
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2):
            return address
    except OSError:
        return None


@contextlib.contextmanager
def _own_sigterm_handler() -> Iterator[None]:
    """Restores this process' SIGTERM handler at the end. The handler that Ray installs prints a stack trace."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def export_python_path() -> None:
    """Makes jobs, serve_apps and tuneyard importable on workers of a private Ray, which inherit the environment."""
    required = [str(CHECKOUT), str(CHECKOUT / "platform")]
    present = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    os.environ["PYTHONPATH"] = os.pathsep.join(required + [p for p in present if p not in required])
    sys.path.extend(p for p in required if p not in sys.path)


def _resources_text() -> str:
    import ray

    resources = ray.cluster_resources()
    return f"{resources.get('CPU', 0):g} CPU, {resources.get('GPU', 0):g} GPU"
