"""`tuneyard serve`: deployments on a cluster, from wherever its dashboard can be reached."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tuneyard.cli.serve_plan import add_plan_command
from tuneyard.cluster.job_client import follow, job_client, job_server, serve_client, submit_job, with_address
from tuneyard.cluster.job_submission import job_command, job_environment
from tuneyard.configs.serve import ServeConfig
from tuneyard.core.command import Commands, add_command, add_overrides
from tuneyard.core.config_loading import load_config
from tuneyard.core.room_commands import DEPLOY

EPILOG = """\
examples:
  tuneyard serve plan serve_apps/configs/gpt_oss_20b_h100_latency.yaml --size 20b
  tuneyard serve deploy serve_apps/configs/demo_cpu.yaml --address http://head:8265
  tuneyard serve status
"""


def add_serve_command(commands: Commands) -> None:
    """Adds `serve` and what is below it."""
    serve = add_command(commands, "serve", "plan, deploy and end deployments on a cluster", EPILOG)
    below = serve.add_subparsers(required=True, metavar="COMMAND")
    add_plan_command(below)
    deploy = below.add_parser("deploy", help="serve a config's models on the cluster; what runs already is replaced")
    deploy.add_argument("config", type=Path, metavar="CONFIG", help="YAML file of a deployment")
    add_overrides(deploy)
    deploy.set_defaults(action=_deploy)
    with_address(deploy)
    status = below.add_parser("status", help="what the cluster serves, and how it stands; exit code 1 if not all runs")
    status.add_argument("--verbose", "-v", action="store_true", help="what Serve says in full, tracebacks too")
    status.set_defaults(action=_status)
    with_address(status)
    stop = below.add_parser("stop", help="end everything that the cluster serves, when its streams have ended")
    stop.set_defaults(action=_stop)
    with_address(stop)


def _deploy(arguments: argparse.Namespace) -> int:
    config = load_config(ServeConfig, arguments.config, arguments.overrides)
    command, variables = job_command(DEPLOY, arguments.config, config, arguments.overrides, "--detach")
    environment = job_environment(job_server(arguments.address), variables)
    with job_client(arguments.address) as client:
        job = submit_job(client, command, environment, {"deploys": str(arguments.config)})
        return follow(client, job)


def _status(arguments: argparse.Namespace) -> int:
    with serve_client(arguments.address) as client:
        applications = _applications(client)
    if not applications:
        print("nothing is served on this cluster")
        return 1
    said: Callable[[str], str] = str if arguments.verbose else brief
    for name, app in applications.items():
        route = app.get("route_prefix") or "(through the gateway)"
        print(f"{name}  {app['status']}  {route}  {said(app['message'])}".rstrip())
        for deployment in app["deployments"].values():
            states = [replica["state"] for replica in deployment["replicas"]]
            counted = ", ".join(f"{states.count(state)} {state.lower()}" for state in sorted(set(states))) or "none"
            print(f"  {deployment['name']}: {counted}  {said(deployment['message'])}".rstrip())
    return 0 if all(app["status"] == "RUNNING" for app in applications.values()) else 1


def brief(message: str) -> str:
    """Serve's message in one line: what it says first, and of a traceback the error at its end."""
    lines = message.splitlines()
    last = max((number for number, line in enumerate(lines) if line.startswith('  File "')), default=None)
    if last is None:
        return " ".join(message.split())
    end = next((n for n in range(last, len(lines)) if lines[n] and not lines[n].startswith(" ")), len(lines))
    return " ".join([lines[0], *" ".join(lines[end:]).split()])


def _stop(arguments: argparse.Namespace) -> None:
    with serve_client(arguments.address) as client:
        names = ", ".join(_applications(client))
        client.delete_applications()
    print(f"[serve] ending: {names or 'nothing was served'}")


def _applications(client: Any) -> dict[str, Any]:
    found: dict[str, Any] = client.get_serve_details().get("applications", {})
    return found
