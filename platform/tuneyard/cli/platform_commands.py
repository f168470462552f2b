"""`tuneyard platform`: starts OpenAI's fine-tuning API on a cluster through its dashboard; shows and stops it; imports
jobs from OpenAI."""

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
  tuneyard platform import saved/ --dry-run
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
IMPORT_EPILOG = """\
FOLDER holds saved answers of OpenAI's API: the list of fine-tuning jobs as JSON or JSONL, and the content of their
training and validation files, named by id or as they were uploaded. Each job that succeeded is created again: same
files, method, hyperparameters, suffix and seed. Nothing is asked of OpenAI. The page Moving from OpenAI's fine-tuning
shows how to save them.

A job or file that an earlier run has imported is not imported again. Exit code 1 if a job is refused, or not created
yet because the key has as many unfinished jobs as it may have. A key, if the API needs one, is in TUNEYARD_API_KEY.

examples:
  tuneyard platform import saved/ --dry-run
  tuneyard platform import saved/ --api http://head:8000/v1 --dry-run
  tuneyard platform import saved/ --api http://head:8000/v1 --wait
  tuneyard platform import saved/ --api http://head:8000/v1 --model gpt-oss-20b --job ftjob-abc123
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
    import_ = add_command(subcommands, "import", "create jobs again that were saved from OpenAI", IMPORT_EPILOG)
    import_.add_argument("folder", type=Path, metavar="FOLDER", help="folder of saved jobs and files")
    import_.add_argument(
        "--api", metavar="URL", help="base URL of the API, such as http://head:8000/v1; only --dry-run can do without"
    )
    import_.add_argument("--model", metavar="BASE", help="base of all jobs; default: the saved names, if it knows them")
    import_.add_argument(
        "--job",
        dest="jobs",
        action="append",
        default=[],
        metavar="ID",
        help="import this job, whatever its status; repeatable",
    )
    import_.add_argument("--dry-run", action="store_true", help="print what would be done and what is refused")
    import_.add_argument(
        "--wait", action="store_true", help="wait while the key has as many unfinished jobs as it may have"
    )
    import_.set_defaults(action=_import)


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


def _import(arguments: argparse.Namespace) -> int:
    from tuneyard.cli.api_connection import open_api_client, raise_api_error
    from tuneyard.cli.openai_import.export_folder import ExportFolder
    from tuneyard.cli.openai_import.job_import import JobImport
    from tuneyard.core.errors import ConfigError

    if arguments.api is None and not arguments.dry_run:
        raise ConfigError("tuneyard platform import needs --api URL, the API that gets the jobs, or --dry-run.")
    folder = ExportFolder.read(arguments.folder)
    client = open_api_client(arguments.api) if arguments.api is not None else None
    job_import = JobImport(folder, client, is_dry_run=arguments.dry_run, wait=arguments.wait)
    try:
        return job_import.run(arguments.jobs, arguments.model)
    except Exception as e:
        raise_api_error(e, arguments.api)
        raise


def _platform(details: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Name and details of the API's application; None if it does not run."""
    applications: dict[str, Any] = details.get("applications", {})
    for name, application in applications.items():
        if API_DEPLOYMENT in application["deployments"]:
            return name, application
    return None
