"""Deploys models on Ray Serve and keeps them up until Ctrl-C.

python -m serve_apps.deploy --config serve_apps/configs/demo_cpu.yaml
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time

from tuneyard.configs.serve import ServeConfig
from tuneyard.core.command import add_config_arguments, run_command
from tuneyard.core.config_loading import load_config

EPILOG = """\
examples:
  python -m serve_apps.deploy --config serve_apps/configs/demo_cpu.yaml
  python -m serve_apps.deploy --config serve_apps/configs/demo_cpu.yaml --set http.port=8001

A checkpoint is served only if its manifest proves it, with the prompt format that it was trained on.
Every field: platform/tuneyard/configs/serve.py
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m serve_apps.deploy",
        description="Serve models with the OpenAI API on Ray Serve.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_arguments(parser)
    parser.add_argument("--detach", action="store_true", help="leave it up on the cluster and return")
    arguments = parser.parse_args(argv)
    return run_command(
        lambda: serve_until_stopped(
            load_config(ServeConfig, arguments.config, arguments.overrides),
            address=arguments.address,
            verbose=arguments.verbose,
            detach=arguments.detach,
        )
    )


def serve_until_stopped(
    config: ServeConfig, *, address: str | None = None, verbose: bool = False, detach: bool = False
) -> None:
    """Deploys and waits for Ctrl-C or SIGTERM; then takes down what it deployed. With `detach` it stays up instead,
    which needs a cluster that runs already: raises ClusterError where there is none.
    """
    from serve_apps.deployment import Deployment
    from tuneyard.cluster.connection import joins_cluster
    from tuneyard.core.errors import ClusterError

    if detach and not joins_cluster(address):
        raise ClusterError(
            "--detach leaves the deployment on a cluster, and none runs here: a private Ray ends with this command. "
            "Leave --detach out, or give the cluster's --address."
        )

    with Deployment(config, address=address, verbose=verbose, say=say) as deployment:
        for line in deployment.how_to_try():
            print(line, flush=True)
        if detach:
            deployment.leave_up()
            say("serving; it stays up on the cluster")
            return
        say("serving; Ctrl-C stops it")
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)
        say("stopping")


def say(text: str) -> None:
    """One line for people, on standard output."""
    print(f"[serve] {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
