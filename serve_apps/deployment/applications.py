"""The Serve applications of a deployment: their names, their start, their removal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tuneyard.core.errors import ClusterError

# ray.serve is imported in the functions: it reads its environment variables at import, after enable_haproxy sets them.
if TYPE_CHECKING:
    from ray.serve import Application

GATEWAY_APPLICATION = "gateway"


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
        serve.shutdown()


def _deployment_messages(name: str) -> str:
    """Serve's messages about an application's deployments; they include a constructor's error."""
    from ray import serve

    app = serve.status().applications.get(name)
    return "\n".join(d.message for d in app.deployments.values() if d.message) if app else ""
