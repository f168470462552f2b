"""`tuneyard jobs submit` and `resume`: a finetuning run is checked here and submitted as a Ray job."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

from tuneyard.cluster.job_client import (
    find_job,
    job_client,
    job_server,
    list_node_resources,
    run_name,
    submit_job,
)
from tuneyard.cluster.job_entrypoint import CONFIG_VARIABLE, finetune_command
from tuneyard.cluster.job_environment import job_environment
from tuneyard.cluster.job_logs import follow
from tuneyard.cluster.job_secrets import hide_secrets
from tuneyard.cluster.placement import WORKER_FIELDS, WORKER_WAIT_FIELD, placement_error
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.config_loading import load_config
from tuneyard.core.errors import ClusterError
from tuneyard.core.path_fields import ENV_PREFIX
from tuneyard.core.resources import describe_shortages
from tuneyard.core.room_commands import FINETUNE
from tuneyard.core.wording import count_of
from tuneyard.planning.nemo_checks import check_nemo_config
from tuneyard.planning.nemo_recipe_values import recipe_values

ACTIVE_STATES = ("PENDING", "RUNNING")


def submit_run(arguments: argparse.Namespace) -> int:
    """The action of `tuneyard jobs submit`; returns the exit code."""
    overrides = list(arguments.overrides)
    if arguments.deploy is not None:
        overrides.append(f"deploy={json.dumps(str(Path(arguments.deploy).expanduser().resolve()))}")
    config = load_config(FinetuneConfig, arguments.config, overrides)
    if config.training.backend == "nemo":
        check_nemo_config(config)
    command, variables = finetune_command(arguments.config, config, arguments.overrides)
    environment = job_environment(job_server(arguments.address), variables)
    if arguments.dry_run:
        print(json.dumps(_describe_submission(config, command, environment), indent=2))
        return 0
    with job_client(arguments.address) as client:
        if not config.workers.wait_for_nodes:
            _check_nodes(client, config)
        return _submit(client, command, environment, config.run.name, wait=arguments.wait)


def resume_run(arguments: argparse.Namespace) -> int:
    """The action of `tuneyard jobs resume`; returns the exit code.

    Raises ClusterError if there is nothing to resume.
    """
    with job_client(arguments.address) as client:
        job = find_job(client, arguments.job)
        if job.status in ACTIVE_STATES:
            raise ClusterError(
                f"{job.submission_id} is still {str(job.status).lower()}. Follow it: "
                f"tuneyard jobs logs -f {job.submission_id}"
            )
        if FINETUNE not in shlex.split(job.entrypoint):
            raise ClusterError(f"{job.submission_id} is not a finetuning run: {job.entrypoint}")
        if job.status == "SUCCEEDED":
            raise ClusterError(
                f"The run {run_name(job)!r} has succeeded ({job.submission_id}); there is nothing to resume."
            )
        # TUNEYARD_ variables hold the run's storage and config. Credentials are taken from this shell instead.
        earlier = (job.runtime_env or {}).get("env_vars", {})
        variables = {name: value for name, value in earlier.items() if name.startswith("TUNEYARD_")}
        if f"{ENV_PREFIX}{CONFIG_VARIABLE}" in shlex.split(job.entrypoint) and CONFIG_VARIABLE not in variables:
            raise ClusterError(
                f"{job.submission_id} was submitted with a config that holds a secret, which Ray does not keep. Submit "
                "the config again: the run continues from its checkpoints."
            )
        environment = job_environment(job_server(arguments.address), variables)
        return _submit(client, job.entrypoint, environment, run_name(job), wait=arguments.wait)


def _check_nodes(client: Any, config: FinetuneConfig) -> None:
    """Raises ClusterError before submitting, so that a run that can never be placed does not become a job."""
    request = config.workers.resource_request
    shortages = describe_shortages([request], list_node_resources(client))
    if shortages:
        what = f"The run {config.run.name!r} with {count_of(request.count, 'worker')}"
        raise placement_error(what, shortages, WORKER_FIELDS, WORKER_WAIT_FIELD)


def _submit(client: Any, command: str, environment: dict[str, Any], run: str, *, wait: bool) -> int:
    job = submit_job(client, command, environment, {"run": run})
    print(f"[jobs] submitted {job}; stop it with: tuneyard jobs stop {job}", flush=True)
    return follow(client, job) if wait else 0


def _describe_submission(config: FinetuneConfig, command: str, environment: dict[str, Any]) -> dict[str, Any]:
    """Returns what `--dry-run` prints."""
    recipe = {}
    if config.training.backend == "nemo":
        scheme = "lora" if config.training.method == "lora" else "none"
        name = f"nemo.collections.llm.{config.nemo.recipe}.finetune_recipe(peft_scheme={scheme!r})"
        recipe = {"recipe": name, "recipe_values": recipe_values(config)}
    request = config.workers.resource_request
    return {
        "config": config.model_dump(mode="json"),
        **recipe,
        "resources": {"workers": request.count, "each": request.per_process},
        "entrypoint": command,
        "runtime_env": hide_secrets(environment),
    }
