"""The Serve applications of a deployment: their names, their start, their removal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from serve_apps.deployment.serve_start import wait_until_serving
from tuneyard.core.errors import ClusterError

# ray.serve is imported in the functions: it reads its environment variables at import, after enable_haproxy sets them.
if TYPE_CHECKING:
    from ray.serve import RunTarget

GATEWAY_APPLICATION = "gateway"
SHUTDOWN_TIMEOUT_S = 30.0
"""Seconds for Serve's controller to end. As in serve.shutdown()."""

REMOVAL_MARGIN_S = 60.0
"""Seconds for Serve to remove an application whose replicas have ended."""

POLL_INTERVAL_S = 0.1


def application_name(model_id: str) -> str:
    """The name of a model's Serve application: its id without characters that Serve does not allow."""
    return model_id.replace("/", "-").replace(":", "-")


def begin_applications(targets: Sequence[RunTarget]) -> None:
    """Hands the applications to Serve, which starts the replicas of all of them at the same time."""
    from ray import serve

    if targets:
        serve.run_many(targets, wait_for_applications_running=False)


def wait_until_running(name: str, model_id: str) -> None:
    """Returns when the application answers. Raises ClusterError, with Serve's reason, if it does not start."""
    from ray.serve.context import _get_global_client

    client = _get_global_client()
    try:
        client._wait_for_application_running(name)
    except RuntimeError as e:
        raise ClusterError(f"{model_id}: no replica started.\n{_deployment_messages(name) or e}") from e
    wait_until_serving()


def running_applications() -> set[str]:
    """The names of all applications that Serve runs."""
    from ray import serve

    return set(serve.status().applications)


def remove_applications(names: Collection[str], shutdown_timeout_s: float) -> None:
    """Deletes the applications, all at the same time, and shuts Serve down if none is left.

    `shutdown_timeout_s` is the longest time that their replicas may take to finish their streams. Raises ClusterError
    if Serve takes much longer.
    """
    from ray.serve.context import _get_global_client

    _get_global_client().delete_apps(list(names), blocking=False)
    limit_s = shutdown_timeout_s + REMOVAL_MARGIN_S
    deadline = time.monotonic() + limit_s
    while left := running_applications().intersection(names):
        if time.monotonic() > deadline:
            raise ClusterError(
                f"Ray Serve has not removed {', '.join(sorted(left))} after {limit_s:.0f} s. See `ray status` and "
                "Serve's logs; `tuneyard serve stop` tries again."
            )
        time.sleep(POLL_INTERVAL_S)
    if not running_applications():
        _shut_serve_down()


def _shut_serve_down() -> None:
    """Ends Serve's controller and proxies, and returns when they have ended, at the latest after SHUTDOWN_TIMEOUT_S.

    In place of serve.shutdown(), whose call Ray repeats without limit: when the controller kills itself, or is slow,
    Ray prints "graceful_shutdown failed. There are infinite retries remaining" in red (Ray 2.60).
    """
    import ray
    from ray.serve.context import _get_global_client, _set_global_client

    client = _get_global_client()
    client.shutdown_cached_handles()
    end = client._controller.graceful_shutdown.options(max_task_retries=0).remote()
    # The call ends when the controller kills itself. A slower controller goes on without this process.
    with contextlib.suppress(ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
        ray.get(end, timeout=SHUTDOWN_TIMEOUT_S)
    client._shutdown = True
    _set_global_client(None)


def _deployment_messages(name: str) -> str:
    """Serve's messages about an application's deployments; they include a constructor's error."""
    from ray import serve

    app = serve.status().applications.get(name)
    return "\n".join(d.message for d in app.deployments.values() if d.message) if app else ""
