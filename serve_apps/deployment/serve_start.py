"""Ray Serve's start on a busy machine: Serve's own start fails when a proxy takes longer than it expects."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tuneyard.core.errors import ClusterError

# ray.serve is imported in the functions: it reads its environment variables at import, after enable_haproxy sets them.
if TYPE_CHECKING:
    from ray.serve.config import HTTPOptions

START_TIMEOUT_S = 600.0
"""Seconds for the controller and all proxies to start. On an idle machine they need about five."""

POLL_INTERVAL_S = 1.0


def start_serve(http: HTTPOptions, controller: dict[str, Any] | None, report: Callable[[str], None]) -> None:
    """Starts Serve unless it runs, with the options of serve.start. Returns when the proxies of a new one listen.

    Serve gives up after 60 s, and as soon as its controller replaces a proxy that did not answer in time (Ray 2.60);
    the controller goes on, so this waits on and reports it. Raises ClusterError after START_TIMEOUT_S, and if a proxy
    cannot listen.
    """
    from ray import serve
    from ray.exceptions import RayTaskError

    attempts = itertools.count()

    def start() -> None:
        is_first = next(attempts) == 0
        serve.start(http_options=http, controller_options=controller)
        if not is_first:  # then the controller runs already, and serve.start has not waited for its proxies
            _wait_for_proxies()

    place = f"{http.host}:{http.port}"
    try:
        repeat_until_ready(start, f"Ray Serve at {place}", report)
    except RayTaskError as e:
        raise ClusterError(
            f"Ray Serve's proxy cannot listen at {place}: {e.cause}. Set http.host and http.port to an address that is "
            "free on every node. Serve's logs, logs/serve/proxy_*.log in Ray's session folder, have more."
        ) from e


def wait_until_serving() -> None:
    """Returns when all proxies know the running applications. Raises ClusterError as start_serve."""
    from ray.serve.context import _get_global_client

    repeat_until_ready(_get_global_client().wait_for_proxies_serving, "Ray Serve's proxy", lambda _: None)


def repeat_until_ready(
    wait: Callable[[], None],
    what: str,
    report: Callable[[str], None],
    *,
    timeout_s: float = START_TIMEOUT_S,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Calls `wait` until it returns: again after each TimeoutError, and each RayActorError of a replaced proxy.

    Reports each repetition. Raises ClusterError for an actor whose own code fails, and for the first failure after
    `timeout_s`. `now` gives seconds.
    """
    from ray.exceptions import RayActorError

    started_at = now()
    while True:
        try:
            wait()
            return
        except (RayActorError, TimeoutError) as e:
            if isinstance(e, RayActorError) and e.actor_init_failed:
                raise ClusterError(f"{what} cannot start: {e}") from e
            seconds = now() - started_at
            if seconds >= timeout_s:
                raise ClusterError(
                    f"{what} was not ready after {seconds:.0f} s: {str(e).strip().partition(chr(10))[0]} This machine "
                    "or a node of the cluster is too busy. Start again when it has free CPU time; Serve's logs, "
                    "logs/serve/ in Ray's session folder, have more."
                ) from e
            report(f"{what} is not ready after {seconds:.0f} s, because the machine is busy; waiting on")
            sleep(POLL_INTERVAL_S)


def _wait_for_proxies() -> None:
    """Returns when the proxies that Serve's controller has now listen."""
    import ray
    from ray.serve._private.constants import HTTP_PROXY_TIMEOUT
    from ray.serve.context import _get_global_client

    proxies = ray.get(_get_global_client()._controller.get_proxies.remote(), timeout=HTTP_PROXY_TIMEOUT)
    ray.get([proxy.ready.remote() for proxy in proxies.values()], timeout=HTTP_PROXY_TIMEOUT)
