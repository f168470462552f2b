"""Ray Serve's settings for streams: how a token gets from a replica through the gateway."""

from __future__ import annotations

from collections.abc import MutableMapping

STREAM_ENVIRONMENT = {
    # Replicas and the gateway answer in the event loop that sends. A thread beside it costs each token two waits for
    # Python's lock, and nothing then slows down a stream that is made faster than it can be sent.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    # The gateway calls replicas by gRPC: without it each token is an object in Ray's object store. Ray Serve's replicas
    # have their gRPC server in any case.
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    # Its own proxies send whole requests, and uploads, as before.
    "RAY_SERVE_PROXY_USE_GRPC": "0",
}
"""Ray Serve's environment variables. It reads them in each of its processes when they start (Ray 2.60)."""


def set_stream_environment(environment: MutableMapping[str, str]) -> None:
    """Adds STREAM_ENVIRONMENT to the environment; variables that are set already stay. Call it before Ray starts."""
    for name, value in STREAM_ENVIRONMENT.items():
        environment.setdefault(name, value)
