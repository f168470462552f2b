"""The address where a cluster's Ray Serve listens, and the settings of the proxy that listens there."""

from __future__ import annotations

import os

from tuneyard.api.header_limits import VARIABLE, proxy_environment
from tuneyard.cluster.haproxy import raise_hard_stop
from tuneyard.configs.limits.header_limits import HeaderLimits
from tuneyard.configs.serve import HttpConfig
from tuneyard.core.errors import ClusterError
from tuneyard.core.ports import check_port_free, free_port


def check_address_free(http: HttpConfig) -> None:
    """Raises PortInUseError if something listens at the config's address."""
    check_port_free(http.host, http.port, f"--set http.port={http.port + 1}")


def is_serve_running_at(http: HttpConfig) -> bool:
    """True if the connected cluster's Serve runs at this address, False if Serve does not run.

    Raises ClusterError if Serve runs at another address.
    """
    from ray.serve.context import _get_global_client
    from ray.serve.exceptions import RayServeException

    try:
        running = _get_global_client().http_config
    except RayServeException:
        return False
    if (running.host, running.port) != (http.host, http.port):
        raise ClusterError(
            f"This cluster's Ray Serve runs at {running.host}:{running.port}, and Serve has one address per cluster; "
            f"the config says {http.host}:{http.port}. Set http.host and http.port to the running address, or stop "
            "what runs there: tuneyard serve stop"
        )
    return True


def enable_haproxy(required_hard_stop_s: int) -> None:
    """Sets Serve's environment variables for HAProxy and for many streams. Call it before Ray is imported.

    `required_hard_stop_s` are the seconds that HAProxy must leave an answer after a replica started or stopped. It
    takes effect in a Ray that this process starts. A running cluster needs the variables in its nodes' environment.
    """
    settings = {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # Serve's default ports are fixed: a second deployment on the same machine would find them in use.
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    raise_hard_stop(os.environ, required_hard_stop_s)


def limit_headers(limits: HeaderLimits) -> None:
    """Makes proxies keep the limits of request headers. As enable_haproxy, for a Ray that this process starts."""
    settings = proxy_environment(limits)
    os.environ[VARIABLE] = settings.pop(VARIABLE)
    for name, value in settings.items():
        os.environ.setdefault(name, value)
