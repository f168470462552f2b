"""Deploys models on Ray Serve and keeps them up until Ctrl-C.

python -m serve_apps.deploy --config serve_apps/configs/demo_cpu.yaml
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from typing import TYPE_CHECKING

from tuneyard.core.command import add_config_arguments, run_command

if TYPE_CHECKING:
    from tuneyard.configs.serve import ServeConfig

EPILOG = """\
examples:
  python -m serve_apps.deploy --config serve_apps/configs/demo_cpu.yaml
  python -m serve_apps.deploy --config serve_apps/configs/demo_cpu.yaml --set http.port=8001

A checkpoint is served only if its manifest proves it, with the prompt format that it was trained with.
All fields of the config: platform/tuneyard/configs/serve.py
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
    parser.add_argument("--detach", action="store_true", help="keep the deployment on the cluster and return")
    arguments = parser.parse_args(argv)

    def deploy() -> None:
        from tuneyard.configs.serve import ServeConfig
        from tuneyard.core.config_loading import load_config

        config = load_config(ServeConfig, arguments.config, arguments.overrides)
        serve_until_stopped(config, address=arguments.address, verbose=arguments.verbose, detach=arguments.detach)

    return run_command(deploy)


def serve_until_stopped(
    config: ServeConfig, *, address: str | None = None, verbose: bool = False, detach: bool = False
) -> None:
    """Deploys, waits for Ctrl-C or SIGTERM, and removes the deployment.

    With `detach` it returns at once instead and the deployment stays. That needs a running cluster: raises ClusterError
    if there is none.
    """
    from serve_apps.lifecycle import Deployment
    from tuneyard.cluster.connection import joins_cluster
    from tuneyard.core.errors import ClusterError

    if detach and not joins_cluster(address):
        raise ClusterError(
            "--detach needs a running Ray cluster, and none was found; a private Ray would end with this command. Give "
            "the cluster's --address, or leave out --detach."
        )

    with Deployment(config, address=address, verbose=verbose, report=report) as deployment:
        for line in deployment.example_requests():
            print(line, flush=True)
        if detach:
            deployment.detach()
            report("serving; the deployment stays on the cluster")
            return
        report("serving; Ctrl-C stops it")
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)
        report("stopping")


def report(text: str) -> None:
    """Prints one line for people on standard output."""
    print(f"[serve] {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
