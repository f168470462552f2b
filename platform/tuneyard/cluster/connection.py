"""Ray, reached or started, and asked whether it can ever place the work."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from tuneyard.cluster.auth_token import ensure_token, use_token_if_there
from tuneyard.cluster.private_ray import no_process_left, start_private_ray
from tuneyard.core.errors import ClusterError
from tuneyard.core.resources import Need, what_lacks

CHECKOUT = Path(__file__).resolve().parents[3]
"""The folder that holds the rooms; `tuneyard` itself lies under its `platform/`."""


def connect_ray(address: str | None = None, *, verbose: bool = False) -> str:
    """Connects this process to Ray and says where to, for people.

    `address=None` takes the cluster that this job runs on (RAY_ADDRESS), or a running local one,
    or else starts a private one on this machine; `"local"` always starts a private one. Raises
    ClusterError when the address does not answer.
    """
    import ray

    if ray.is_initialized():
        return f"the connected cluster {ray.get_runtime_context().gcs_address}"
    _export_python_path()
    # Workers print warnings of their libraries; what people need comes through a DriverChannel.
    options = {"logging_level": "ERROR" if not verbose else "INFO", "log_to_driver": verbose}
    target = _target(address)
    try:
        if target == "local":
            ensure_token()
            atexit.register(disconnect_ray)
            with _own_sigterm():
                start_private_ray(log_monitor=verbose, **options)
            return f"a private Ray on this machine ({_resources_text()})"
        use_token_if_there()
        with _own_sigterm():
            ray.init(address=target, **options)
    except (ConnectionError, ValueError, RuntimeError) as e:
        raise ClusterError(
            f"No Ray cluster answers at {target!r}: {e}. Use --address local for a private one on this machine."
        ) from e
    found = ray.get_runtime_context().gcs_address
    nodes = sum(node["Alive"] for node in ray.nodes())
    return f"the running cluster {found} ({nodes} node{'s' if nodes != 1 else ''}, {_resources_text()})"


def disconnect_ray() -> None:
    """Leaves the connected cluster; a private Ray ends, with all that it started. Does nothing if none is connected."""
    import ray

    with no_process_left():
        # As Ray's own hook of an exit does it: time to show the workers' last lines.
        ray.shutdown(_exiting_interpreter=True)


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keeps this process' handler of SIGTERM: Ray's prints a stack, as if being asked to end were a crash."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def joins_cluster(address: str | None) -> bool:
    """Whether connect_ray would join a cluster, which outlives this process, or start a private Ray."""
    return _target(address) != "local"


def _target(address: str | None) -> str:
    return address or os.environ.get("RAY_ADDRESS") or _running_cluster() or "local"


def check_placement(needs: Sequence[Need], what: str, *, wait_for_nodes: bool, fields: str, wait_field: str) -> str:
    """What the connected cluster's nodes lack now to hold the needs, for people; empty when they lack nothing.

    A lack raises ClusterError, unless `wait_for_nodes` says that an autoscaler will add the nodes. `fields` and
    `wait_field` name the config's.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    lacking = what_lacks(needs, nodes)
    if lacking and not wait_for_nodes:
        raise never_placed(what, lacking, fields, wait_field)
    return lacking


def never_placed(what: str, lacking: str, fields: str, wait_field: str) -> ClusterError:
    """The error for work that the nodes lack something for."""
    return ClusterError(
        f"{what} can never be placed on this Ray cluster as it is: {lacking}. Ask for less ({fields}), or add nodes. "
        f"Where nodes are about to come, or an autoscaler adds them: --set {wait_field}=true."
    )


def _export_python_path() -> None:
    """Lets workers of a private Ray import the rooms: they inherit the environment."""
    wanted = [str(CHECKOUT), str(CHECKOUT / "platform")]
    present = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    os.environ["PYTHONPATH"] = os.pathsep.join(wanted + [p for p in present if p not in wanted])
    sys.path.extend(p for p in wanted if p not in sys.path)


def _running_cluster() -> str | None:
    """The address of the cluster that `ray start` runs on this machine, if it answers. Not what Ray's own search finds:
    that takes another command's private Ray for one.
    """
    from ray._private.services import find_bootstrap_address

    found: str | None = find_bootstrap_address(None)
    if not found:
        return None
    host, _, port = found.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2):
            return found
    except OSError:
        return None


def _resources_text() -> str:
    import ray

    resources = ray.cluster_resources()
    return f"{resources.get('CPU', 0):g} CPU, {resources.get('GPU', 0):g} GPU"
