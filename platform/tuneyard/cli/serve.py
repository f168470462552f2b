"""`tuneyard serve`: deploys models on a cluster through its dashboard; shows and stops what is served."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneyard.cli.serve_plan import add_plan_command
from tuneyard.cluster.job_client import add_address_option, job_client, job_server, serve_client, submit_job
from tuneyard.core.command import Commands, add_command, add_overrides
from tuneyard.core.room_commands import DEPLOY

if TYPE_CHECKING:
    from tuneyard.configs.serve import ServeConfig

EPILOG = """\
examples:
  tuneyard serve plan serve_apps/configs/gpt_oss_20b_h100_latency.yaml --size 20b
  tuneyard serve deploy serve_apps/configs/demo_cpu.yaml --address http://head:8265
  tuneyard serve status
  tuneyard serve stop
"""
DEPLOY_EPILOG = """\
Submits a job that deploys, and prints its log until the models answer. Models that the cluster serves already are
replaced when the new ones are ready.

examples:
  tuneyard serve deploy serve_apps/configs/demo_cpu.yaml
  tuneyard serve deploy my.yaml --address http://head:8265 --set http.port=8001
"""
STATUS_EPILOG = """\
Shows every application with its replicas. Exit code 1 unless all applications are RUNNING.

examples:
  tuneyard serve status
  tuneyard serve status --verbose --address http://head:8265
"""
STOP_EPILOG = """\
Removes all applications. Requests that are running finish first.

example:
  tuneyard serve stop --address http://head:8265
"""


def add_serve_command(commands: Commands) -> None:
    """Adds `serve` and its subcommands."""
    serve = add_command(commands, "serve", "plan, deploy and stop models on a cluster", EPILOG)
    subcommands = serve.add_subparsers(required=True, metavar="COMMAND")
    add_plan_command(subcommands)
    deploy = add_command(subcommands, "deploy", "serve a config's models on the cluster", DEPLOY_EPILOG)
    deploy.add_argument("config", type=Path, metavar="CONFIG", help="YAML file of a deployment")
    add_overrides(deploy)
    add_address_option(deploy)
    deploy.set_defaults(action=_deploy)
    status = add_command(subcommands, "status", "show what the cluster serves", STATUS_EPILOG)
    status.add_argument(
        "--verbose",
        "-v",
        action="store_true",
        help="print Serve's messages in full, with tracebacks (default: one line)",
    )
    add_address_option(status)
    status.set_defaults(action=_status)
    stop = add_command(subcommands, "stop", "stop everything that the cluster serves", STOP_EPILOG)
    add_address_option(stop)
    stop.set_defaults(action=_stop)


def _deploy(arguments: argparse.Namespace) -> int:
    from tuneyard.configs.serve import ServeConfig
    from tuneyard.core.config_loading import load_config

    return submit_deployment(load_config(ServeConfig, arguments.config, arguments.overrides), arguments)


def submit_deployment(config: ServeConfig, arguments: argparse.Namespace) -> int:
    """Submits the job that deploys a config, and prints its log until the models answer; returns the exit code.

    `arguments` are those of `serve deploy`, from which the config was loaded.
    """
    from tuneyard.cluster.job_entrypoint import job_command
    from tuneyard.cluster.job_environment import job_environment
    from tuneyard.cluster.job_logs import follow
    from tuneyard.storage.audit_log import AuditLog, digest_of

    command, variables = job_command(DEPLOY, arguments.config, config, arguments.overrides, "--detach")
    environment = job_environment(job_server(arguments.address), variables)
    with job_client(arguments.address) as client:
        job = submit_job(client, command, environment, {"deploys": str(arguments.config)})
        digest = digest_of(config.model_dump(mode="json"))
        models = ", ".join(model.model_id for model in config.models) or "the fine-tuning API"
        AuditLog().append("deployment.submit", models, after=digest, details={"job": str(job)})
        return follow(client, job)


def _status(arguments: argparse.Namespace) -> int:
    with serve_client(arguments.address) as client:
        applications = _applications(client)
    if not applications:
        print("nothing is served on this cluster")
        return 1
    message: Callable[[str], str] = str if arguments.verbose else summarize
    for name, app in applications.items():
        route = app.get("route_prefix") or "(through the gateway)"
        print(f"{name}  {app['status']}  {route}  {message(app['message'])}".rstrip())
        for deployment in app["deployments"].values():
            states = [replica["state"] for replica in deployment["replicas"]]
            counts = ", ".join(f"{states.count(state)} {state.lower()}" for state in sorted(set(states))) or "none"
            print(f"  {deployment['name']}: {counts}  {message(deployment['message'])}".rstrip())
    return 0 if all(app["status"] == "RUNNING" for app in applications.values()) else 1


def summarize(message: str) -> str:
    """Returns a message of Serve in one line: its first line and, if it holds a traceback, the error at its end."""
    lines = message.splitlines()
    last_frame = max((number for number, line in enumerate(lines) if line.startswith('  File "')), default=None)
    if last_frame is None:
        return " ".join(message.split())
    error = next((n for n in range(last_frame, len(lines)) if lines[n] and not lines[n].startswith(" ")), len(lines))
    return " ".join([lines[0], *" ".join(lines[error:]).split()])


def _stop(arguments: argparse.Namespace) -> None:
    from tuneyard.storage.audit_log import AuditLog

    with serve_client(arguments.address) as client:
        names = ", ".join(_applications(client))
        client.delete_applications()
    AuditLog().append("deployment.stop", names or "nothing")
    print(f"[serve] stopping: {names or 'nothing was served'}")


def _applications(client: Any) -> dict[str, Any]:
    applications: dict[str, Any] = client.get_serve_details().get("applications", {})
    return applications
