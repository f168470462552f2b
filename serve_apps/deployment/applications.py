"""The Serve applications of a deployment: their names, their start, their removal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tuneyard.core.errors import ClusterError

# ray.serve is imported in the functions: it reads its environment variables at import, after enable_haproxy sets them.
if TYPE_CHECKING:
    from ray.serve import Application

GATEWAY_APPLICATION = "gateway"
SHUTDOWN_TIMEOUT_S = 30.0
"""Seconds for Serve's controller to end. As in serve.shutdown()."""


def application_name(model_id: str) -> str:
    """The name of a model's Serve application: its id without characters that Serve does not allow."""
    return model_id.replace("/", "-").replace(":", "-")


def start_application(app: Application, name: str, route_prefix: str | None, model_id: str) -> None:
    """Returns when the application answers. Raises ClusterError, with Serve's reason, if it does not start."""
    from ray import serve

    try:
        serve.run(app, name=name, route_prefix=route_prefix, blocking=False)
    except RuntimeError as e:
        raise ClusterError(f"{model_id}: no replica started.\n{_deployment_messages(name) or e}") from e


def running_applications() -> set[str]:
    """The names of all applications that Serve runs."""
    from ray import serve

    return set(serve.status().applications)


def remove_applications(names: Iterable[str]) -> None:
    """Deletes the applications, and shuts Serve down if none is left."""
    from ray import serve

    for name in names:
        serve.delete(name)
    if not serve.status().applications:
        _shut_serve_down()


def _shut_serve_down() -> None:
    """Ends Serve's controller and proxies, and returns when they have ended."""
    import ray
    from ray import serve
    from ray.serve.context import _get_global_client

    # This call ends when the controller kills itself. serve.shutdown() makes it as a call that Ray repeats without
    # limit, so Ray prints an error in red: "graceful_shutdown failed. There are infinite retries remaining" (Ray 2.60).
    end = _get_global_client()._controller.graceful_shutdown.options(max_task_retries=0).remote()
    # A controller that is slow to end is left to serve.shutdown(), which waits again and logs a warning.
    with contextlib.suppress(ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
        ray.get(end, timeout=SHUTDOWN_TIMEOUT_S)
    serve.shutdown()


def _deployment_messages(name: str) -> str:
    """Serve's messages about an application's deployments; they include a constructor's error."""
    from ray import serve

    app = serve.status().applications.get(name)
    return "\n".join(d.message for d in app.deployments.values() if d.message) if app else ""
