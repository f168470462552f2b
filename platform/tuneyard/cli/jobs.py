"""`tuneyard jobs`: Ray's job submission with what a run of ours needs filled in."""

from __future__ import annotations

import argparse
import json
import shlex
import time
from pathlib import Path
from typing import Any

from tuneyard.cluster.connection import never_placed
from tuneyard.cluster.job_client import (
    find_job,
    follow,
    job_client,
    job_server,
    last_progress,
    nodes_of,
    reason_of,
    run_of,
    submit_job,
    with_address,
)
from tuneyard.cluster.job_submission import (
    WAIT_FIELD,
    WORKER_FIELDS,
    finetune_command,
    job_environment,
    shown_environment,
)
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.command import Commands, add_command, add_overrides
from tuneyard.core.config_loading import load_config
from tuneyard.core.errors import ClusterError
from tuneyard.core.resources import what_lacks
from tuneyard.core.room_commands import FINETUNE
from tuneyard.planning.nemo_parallelism import check_nemo_config
from tuneyard.planning.nemo_recipe_values import recipe_values

GOING = ("PENDING", "RUNNING")
EPILOG = """\
The cluster gets the checkout, without what git ignores. A CONFIG in the checkout travels with it; one that lies
elsewhere travels as it is read here. Paths in it are the cluster's. JOB is a job's id or a run's name (its newest job).

examples:
  tuneyard jobs submit jobs/configs/gpt_oss_20b_lora.yaml --dry-run
  tuneyard jobs submit jobs/configs/gpt_oss_20b_lora.yaml --set training.epochs=1 --address http://head:8265
  tuneyard jobs submit my.yaml --deploy serve_apps/configs/demo_cpu.yaml      serve the result when it is proved
  tuneyard jobs logs -f support-lora
  tuneyard jobs resume support-lora         after a crash: from its last checkpoint

the same by Ray's own means:
  RAY_AUTH_MODE=token ray job submit --working-dir . --runtime-env-json '{"py_modules": ["platform/tuneyard"]}' -- \\
      python -m jobs.finetune --config jobs/configs/gpt_oss_20b_lora.yaml
"""


def add_jobs_command(commands: Commands) -> None:
    """Adds `jobs` and what is below it."""
    jobs = add_command(commands, "jobs", "run jobs on a Ray cluster", EPILOG)
    below = jobs.add_subparsers(required=True, metavar="COMMAND")
    submit = below.add_parser("submit", help="finetune on the cluster; follows the log until the job ends")
    submit.add_argument("config", type=Path, metavar="CONFIG", help="YAML file of a finetuning run")
    add_overrides(submit)
    submit.add_argument("--dry-run", action="store_true", help="print what would be submitted; ask no cluster")
    submit.add_argument("--deploy", metavar="CONFIG", help="serve the result with this deployment's config (`deploy:`)")
    _with_wait(submit)
    submit.set_defaults(action=_submit)
    with_address(submit)
    listed = below.add_parser("list", help="jobs of the cluster and how they stand")
    listed.set_defaults(action=_list)
    with_address(listed)
    for name, action, text in (
        ("status", _status, "how a job stands: state, step, loss, tokens/s, time left"),
        ("logs", _logs, "what a job printed"),
        ("stop", _stop, "as Ctrl-C does: checkpoints are kept, `resume` goes on from there"),
        ("resume", _resume, "submit a run that ended early again: it goes on from its last checkpoint"),
    ):
        parser = below.add_parser(name, help=text)
        parser.add_argument("job", metavar="JOB", help="a job's id, or a run's name")
        parser.set_defaults(action=action)
        with_address(parser)
        if name == "logs":
            parser.add_argument(
                "-f", "--follow", action="store_true", help="until the job ends; its exit code is this command's"
            )
        if name == "resume":
            _with_wait(parser)


def _with_wait(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wait", action=argparse.BooleanOptionalAction, default=True, help="follow the log until the job ends"
    )


def _submit(arguments: argparse.Namespace) -> int:
    overrides = list(arguments.overrides)
    if arguments.deploy is not None:
        overrides.append(f"deploy={json.dumps(str(Path(arguments.deploy).expanduser().resolve()))}")
    config = load_config(FinetuneConfig, arguments.config, overrides)
    if config.training.backend == "nemo":
        check_nemo_config(config)
    command, variables = finetune_command(arguments.config, config, arguments.overrides)
    environment = job_environment(job_server(arguments.address), variables)
    if arguments.dry_run:
        print(json.dumps(_description(config, command, environment), indent=2))
        return 0
    with job_client(arguments.address) as client:
        if not config.workers.wait_for_nodes:
            _check_nodes(client, config)
        return _start(client, command, environment, config.run.name, wait=arguments.wait)


def _check_nodes(client: Any, config: FinetuneConfig) -> None:
    """Asked here, so that a run which can never be placed does not even become a job."""
    lacking = what_lacks([config.workers.need], nodes_of(client))
    if lacking:
        what = f"The run {config.run.name!r} with {config.workers.need.count} worker(s)"
        raise never_placed(what, lacking, WORKER_FIELDS, WAIT_FIELD)


def _start(client: Any, command: str, environment: dict[str, Any], run: str, *, wait: bool) -> int:
    job = submit_job(client, command, environment, {"run": run})
    print(f"[jobs] submitted {job}; end it with: tuneyard jobs stop {job}", flush=True)
    return follow(client, job) if wait else 0


def _description(config: FinetuneConfig, command: str, environment: dict[str, Any]) -> dict[str, Any]:
    recipe = {}
    if config.training.backend == "nemo":
        scheme = "lora" if config.training.method == "lora" else "none"
        name = f"nemo.collections.llm.{config.nemo.recipe}.finetune_recipe(peft_scheme={scheme!r})"
        recipe = {"recipe": name, "recipe_values": recipe_values(config)}
    need = config.workers.need
    return {
        "config": config.model_dump(mode="json"),
        **recipe,
        "resources": {"workers": need.count, "each": need.each},
        "entrypoint": command,
        "runtime_env": shown_environment(environment),
    }


def _list(arguments: argparse.Namespace) -> None:
    with job_client(arguments.address) as client:
        jobs = client.list_jobs()
        if not jobs:
            print("no job was submitted to this cluster")
        for job in sorted(jobs, key=lambda job: job.start_time or 0):
            what = run_of(job) or " ".join(shlex.split(job.entrypoint)[2:3])
            print(f"{job.submission_id}  {job.status:<10}  {what}  {reason_of(job)}".rstrip())


def _status(arguments: argparse.Namespace) -> int:
    with job_client(arguments.address) as client:
        job = find_job(client, arguments.job)
        log = client.get_job_logs(job.submission_id)
    took_s = ((job.end_time or time.time() * 1000) - (job.start_time or time.time() * 1000)) / 1000
    print(f"{job.submission_id}  {job.status}  {run_of(job)}  {took_s:.0f} s")
    print(f"  {job.entrypoint}")
    for text in (last_progress(log), reason_of(job)):
        if text:
            print(f"  {text}")
    return 1 if job.status == "FAILED" else 0


def _logs(arguments: argparse.Namespace) -> int:
    with job_client(arguments.address) as client:
        job = find_job(client, arguments.job).submission_id
        if arguments.follow:
            return follow(client, job)
        print(client.get_job_logs(job), end="")
    return 0


def _stop(arguments: argparse.Namespace) -> None:
    with job_client(arguments.address) as client:
        job = find_job(client, arguments.job).submission_id
        stopped = client.stop_job(job)
    print(f"[jobs] {job} {'is being stopped' if stopped else 'had ended already'}")


def _resume(arguments: argparse.Namespace) -> int:
    with job_client(arguments.address) as client:
        job = find_job(client, arguments.job)
        if job.status in GOING:
            raise ClusterError(
                f"{job.submission_id} is still {str(job.status).lower()}: tuneyard jobs logs -f {job.submission_id}"
            )
        if FINETUNE not in shlex.split(job.entrypoint):
            raise ClusterError(f"{job.submission_id} is no finetuning run: {job.entrypoint}")
        if job.status == "SUCCEEDED":
            raise ClusterError(
                f"The run {run_of(job)!r} has succeeded ({job.submission_id}); there is nothing to resume."
            )
        # Where it wrote, and the config that it had; code is this checkout's, and credentials are this shell's.
        old = (job.runtime_env or {}).get("env_vars", {})
        variables = {name: value for name, value in old.items() if name.startswith("TUNEYARD_")}
        environment = job_environment(job_server(arguments.address), variables)
        return _start(client, job.entrypoint, environment, run_of(job), wait=arguments.wait)
