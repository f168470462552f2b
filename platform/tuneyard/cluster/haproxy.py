"""The time after which Ray Serve's HAProxy cuts the answers that an old process of it still sends.

Each start or end of a replica makes Ray Serve start a new HAProxy process. The old one takes no new connections, sends
the rest of its answers, and is killed after its hard stop, by default 120 s (Ray 2.60, ray-project/ray issue 66056).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

HARD_STOP_VARIABLE = "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"
"""Ray Serve's environment variable for the hard stop, in whole seconds. Ray Serve reads it in its controller, its
proxies and its replicas when they start."""

DEFAULT_HARD_STOP_S = 120
"""Ray Serve's hard stop where the variable is not set."""

MARGIN_S = 30
"""Seconds that an answer may spend outside a replica: in Ray Serve's queue, and on its way to the client."""

NO_LIMIT_S = 86_400
"""The hard stop where answers have no limit of time: one day. Ray Serve cannot run HAProxy without a hard stop."""

PROBE_TIMEOUT_S = 10.0


def required_hard_stop_s(answer_timeouts_s: Iterable[float | None]) -> int:
    """Returns the shortest hard stop, in seconds, that cuts no answer of models with these `answer_timeout_s`.

    None among them stands for a model whose answers have no limit.
    """
    limits = [NO_LIMIT_S if timeout_s is None else math.ceil(timeout_s) + MARGIN_S for timeout_s in answer_timeouts_s]
    return max(limits, default=0)


def raise_hard_stop(environment: MutableMapping[str, str], required_s: int) -> None:
    """Sets the variable in the environment, unless it holds a number of seconds that is as long or longer."""
    present = environment.get(HARD_STOP_VARIABLE, "")
    if not (present.isascii() and present.isdigit()) or int(present) < required_s:
        environment[HARD_STOP_VARIABLE] = str(required_s)


def configured_hard_stop_s(environment: Mapping[str, str]) -> int | None:
    """Returns the hard stop, in seconds, of a HAProxy that Ray Serve starts with this environment.

    None if Ray Serve then starts proxies of its own.
    """
    if environment.get("RAY_SERVE_ENABLE_HA_PROXY") != "1":
        return None
    return int(environment.get(HARD_STOP_VARIABLE) or DEFAULT_HARD_STOP_S)


def running_hard_stop_s() -> int | None:
    """Returns the shortest hard stop of the HAProxies of the connected cluster, in seconds.

    None if Ray Serve does not run there, or with proxies of its own. A proxy that does not answer is left out.
    """
    try:
        import ray
        from ray.serve.context import _get_global_client
        from ray.serve.exceptions import RayServeException
    except ImportError:
        return None  # Ray without its extra `serve`

    # Defined here, so that Ray sends it as code: a node needs no Tuneyard to run it.
    def hard_stop_of(proxy: Any) -> int | None:
        from ray.serve._private.constants import RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S as seconds

        return int(seconds) if type(proxy).__name__ == "HAProxyManager" else None

    try:
        controller = _get_global_client()._controller
        proxies = ray.get(controller.get_proxies.remote(), timeout=PROBE_TIMEOUT_S).values()
    except (RayServeException, ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
        return None
    answers = [proxy.__ray_call__.remote(hard_stop_of) for proxy in proxies]
    ready, _ = ray.wait(answers, num_returns=len(answers), timeout=PROBE_TIMEOUT_S) if answers else ([], [])
    found = []
    for answer in ready:
        try:
            found.append(ray.get(answer))
        except ray.exceptions.RayActorError:
            continue  # The proxy ended meanwhile, so it sends no answers.
    return min((seconds for seconds in found if seconds is not None), default=None)


def too_short_text(running_s: int, required_s: int) -> str:
    """Returns what is wrong when the running hard stop is shorter than the required one, with both numbers."""
    return (
        f"HAProxy cuts answers that still run {running_s} s after a replica starts or stops, and needs {required_s} s "
        f"(answer_timeout_s and {MARGIN_S} s): {HARD_STOP_VARIABLE} is too small where Ray Serve was started"
    )


def too_short_fix(required_s: int) -> str:
    """Returns how to lengthen the hard stop of a Ray Serve that runs."""
    return (
        f"Run `tuneyard serve stop` and deploy again with http.proxy: haproxy, or start the nodes with "
        f"{HARD_STOP_VARIABLE}={required_s} in their environment."
    )
