"""Ray, reached or started, and asked whether it can ever place the work."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tuneyard.errors import ClusterError

CHECKOUT = Path(__file__).resolve().parents[2]
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
    # Workers print warnings of their libraries; what people need comes through the event queue.
    options = {"logging_level": "ERROR" if not verbose else "INFO", "log_to_driver": verbose}
    target = address or os.environ.get("RAY_ADDRESS")
    try:
        if target is None:
            target = "auto" if _cluster_is_running() else "local"
        if target == "local":
            ray.init(address="local", include_dashboard=False, **options)
            return f"a private Ray on this machine ({_resources_text(ray.cluster_resources())})"
        ray.init(address=target, **options)
    except (ConnectionError, ValueError, RuntimeError) as e:
        raise ClusterError(
            f"No Ray cluster answers at {target!r}: {e}. Use --address local for a private one on this machine."
        ) from e
    found = ray.get_runtime_context().gcs_address
    return f"the running cluster {found} ({_resources_text(ray.cluster_resources())})"


def check_resources(needed: dict[str, float], what: str, *, wait_for_nodes: bool, fields: str, wait_field: str) -> str:
    """What the cluster's nodes lack now to hold `needed`, for people; empty when they lack nothing.

    Ray itself would keep such work pending without a word. So a lack raises ClusterError, unless
    `wait_for_nodes` says that an autoscaler will add the nodes. `fields` and `wait_field` name the config's.
    """
    import ray

    lacking = lacking_resources(needed, ray.cluster_resources())
    if lacking and not wait_for_nodes:
        raise ClusterError(
            f"{what} can never be placed on this Ray cluster: {lacking}. Ask for less ({fields}), or add nodes. Where "
            f"an autoscaler adds them: --set {wait_field}=true."
        )
    return lacking


def lacking_resources(needed: dict[str, float], have: dict[str, float]) -> str:
    """Each resource of which there is too little, with both numbers."""
    return "; ".join(
        f"{name}: {amount:g} needed, {have.get(name, 0):g} there"
        for name, amount in needed.items()
        if have.get(name, 0) < amount
    )


def _export_python_path() -> None:
    """Lets workers of a private Ray import the rooms: they inherit the environment."""
    wanted = [str(CHECKOUT), str(CHECKOUT / "platform")]
    present = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    os.environ["PYTHONPATH"] = os.pathsep.join(wanted + [p for p in present if p not in wanted])
    sys.path.extend(p for p in wanted if p not in sys.path)


def _cluster_is_running() -> bool:
    """Whether `ray start` runs a cluster on this machine that `ray.init("auto")` would find."""
    from ray._private.services import canonicalize_bootstrap_address

    try:
        return canonicalize_bootstrap_address("auto") is not None
    except ConnectionError:
        return False


def _resources_text(resources: dict[str, float]) -> str:
    nodes = sum(1 for name in resources if name.startswith("node:") and name != "node:__internal_head__")
    return f"{nodes} node{'s' if nodes != 1 else ''}, {resources.get('CPU', 0):g} CPU, {resources.get('GPU', 0):g} GPU"
