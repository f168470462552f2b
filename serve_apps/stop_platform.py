"""Removes the fine-tuning API and its tuned models from a running cluster. Records, files and running jobs stay.

python -m serve_apps.stop_platform
"""

from __future__ import annotations

import argparse
import sys

from tuneyard.core.command import run_command

EPILOG = """\
example:
  python -m serve_apps.stop_platform --address auto

From outside of the cluster: tuneyard platform stop --address http://head:8265
"""

SHUTDOWN_TIMEOUT_S = 630.0
"""Seconds that replicas may take to finish their streams: the default of replicas.graceful_shutdown_timeout_s."""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m serve_apps.stop_platform",
        description="Remove the fine-tuning API and its tuned models from a running Ray cluster.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--address", help="address of the cluster (default: RAY_ADDRESS, else this machine's)")
    arguments = parser.parse_args(argv)
    return run_command(lambda: stop_platform(arguments.address))


def stop_platform(address: str | None) -> None:
    """Removes the applications. Raises ClusterError if there is no cluster, or Serve does not remove them in time."""
    from serve_apps.deployment.applications import GATEWAY_APPLICATION, remove_applications, running_applications
    from serve_apps.gateway.owned_models import OWNED_APPLICATION_PREFIX
    from tuneyard.cluster.connection import connect_ray, disconnect_ray, joins_cluster
    from tuneyard.core.errors import ClusterError

    if not joins_cluster(address):
        raise ClusterError("No running Ray cluster was found. Give the cluster's --address.")
    connect_ray(address)
    try:
        # The API first: it would start what it serves again.
        tuned = {name for name in running_applications() if name.startswith(OWNED_APPLICATION_PREFIX)}
        for names in filter(None, ({GATEWAY_APPLICATION}, tuned)):
            remove_applications(names, SHUTDOWN_TIMEOUT_S)
            print(f"[platform] removed: {', '.join(sorted(names))}", flush=True)
    finally:
        disconnect_ray()


if __name__ == "__main__":
    sys.exit(main())
