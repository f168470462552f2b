"""`tuneyard platform`: starts OpenAI's fine-tuning API on a cluster through its dashboard; shows and stops it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tuneyard.cli.serve import submit_deployment, summarize
from tuneyard.cluster.job_client import add_address_option, job_client, job_server, serve_client, submit_job
from tuneyard.core.command import Commands, add_command, add_overrides
from tuneyard.core.room_commands import STOP_PLATFORM

EPILOG = """\
examples:
  tuneyard platform start platform.yaml --address http://head:8265
  tuneyard platform status
  tuneyard platform stop
"""
START_EPILOG = """\
Submits a job that deploys the config, as `tuneyard serve deploy` does, and prints its log until the API answers. The
config is that of a deployment with a section `platform`; its models answer at the same /v1.

examples:
  tuneyard platform start platform.yaml
  tuneyard platform start platform.yaml --address http://head:8265 --set platform.max_running_jobs=2
"""
STATUS_EPILOG = """\
Shows the API's replicas and the reconciler. Exit code 1 unless both run.

example:
  tuneyard platform status --address http://head:8265
"""
STOP_EPILOG = """\
Removes the API and the tuned models that it serves. Jobs that train go on, and all records and files stay; what clients
asked for is taken up when the API is started again. Models of the config stay: `tuneyard serve stop` removes them too.

example:
  tuneyard platform stop --address http://head:8265
"""

API_DEPLOYMENT = "Platform"
"""The name of the API's deployment in Ray Serve, as serve_apps.platform_app.deployment has it."""


def add_platform_command(commands: Commands) -> None:
    """Adds `platform` and its subcommands."""
    platform = add_command(commands, "platform", "start and stop OpenAI's fine-tuning API on a cluster", EPILOG)
    subcommands = platform.add_subparsers(required=True, metavar="COMMAND")
    start = add_command(subcommands, "start", "serve a config's API and models on the cluster", START_EPILOG)
    start.add_argument("config", type=Path, metavar="CONFIG", help="YAML file of a deployment with `platform`")
    add_overrides(start)
    add_address_option(start)
    start.set_defaults(action=_start)
    status = add_command(subcommands, "status", "show whether the API runs", STATUS_EPILOG)
    add_address_option(status)
    status.set_defaults(action=_status)
    stop = add_command(subcommands, "stop", "stop the API and the tuned models", STOP_EPILOG)
    add_address_option(stop)
    stop.set_defaults(action=_stop)


def _start(arguments: argparse.Namespace) -> int:
    from tuneyard.configs.serve import ServeConfig
    from tuneyard.core.config_loading import load_config
    from tuneyard.core.errors import ConfigError

    config = load_config(ServeConfig, arguments.config, arguments.overrides)
    if config.platform is None:
        raise ConfigError(
            f"{arguments.config} has no section `platform`, so it serves models only. Add `platform: {{}}`, or use "
            "`tuneyard serve deploy`."
        )
    return submit_deployment(config, arguments)


def _status(arguments: argparse.Namespace) -> int:
    with serve_client(arguments.address) as client:
        details = client.get_serve_details()
    running = _platform(details)
    if running is None:
        print("the fine-tuning API does not run on this cluster")
        return 1
    name, application = running
    http = details.get("http_options") or {}
    print(f"{name}  {application['status']}  http://{http.get('host')}:{http.get('port')}/v1")
    for deployment in application["deployments"].values():
        states = [replica["state"] for replica in deployment["replicas"]]
        counts = ", ".join(f"{states.count(state)} {state.lower()}" for state in sorted(set(states))) or "none"
        print(f"  {deployment['name']}: {counts}  {summarize(deployment['message'])}".rstrip())
    return 0 if application["status"] == "RUNNING" else 1


def _stop(arguments: argparse.Namespace) -> int:
    from tuneyard.cluster.job_environment import job_environment
    from tuneyard.cluster.job_logs import follow
    from tuneyard.storage.audit_log import AuditLog

    with serve_client(arguments.address) as client:
        if _platform(client.get_serve_details()) is None:
            print("[platform] nothing to stop: the fine-tuning API does not run on this cluster")
            return 0
    with job_client(arguments.address) as client:
        environment = job_environment(job_server(arguments.address))
        job = submit_job(client, f"python -m {STOP_PLATFORM}", environment, {"stops": "platform"})
        AuditLog().append("platform.stop", "the fine-tuning API", details={"job": job})
        return follow(client, job)


def _platform(details: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Name and details of the API's application; None if it does not run."""
    applications: dict[str, Any] = details.get("applications", {})
    for name, application in applications.items():
        if API_DEPLOYMENT in application["deployments"]:
            return name, application
    return None
