"""The command line of a submitted job, and the environment variables that carry its configs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from tuneyard.cluster.connection import CHECKOUT
from tuneyard.cluster.job_secrets import holds_secret
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.configs.followup_deployment import load_deployment
from tuneyard.core.errors import ConfigError
from tuneyard.core.home import tuneyard_home
from tuneyard.core.path_fields import ENV_PREFIX
from tuneyard.core.room_commands import FINETUNE
from tuneyard.core.strict_model import StrictConfig
from tuneyard.storage.location import default_storage

CONFIG_VARIABLE, DEPLOY_VARIABLE = "TUNEYARD_CONFIG", "TUNEYARD_DEPLOY_CONFIG"
"""Carry configs that are not in the checkout."""


def finetune_command(path: Path, config: FinetuneConfig, overrides: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Returns job_command's result for a finetuning run and the deployment in its `deploy` field.

    Raises ConfigError when the deployment does not serve the run's model, and when run.storage is in the checkout.
    """
    storage = config.run.storage
    if storage not in (default_storage(), str(tuneyard_home())) and Path(storage).is_relative_to(CHECKOUT):
        raise ConfigError(
            f"run.storage: {storage} is in the checkout. The cluster gets a copy of the checkout that it deletes after "
            "the job. Give an absolute path to a folder of the cluster, or the URI of an object store."
        )
    if config.deploy is None:
        return job_command(FINETUNE, path, config, overrides)
    deployment = load_deployment(config)
    deploy = Path(config.deploy)
    if deploy.is_relative_to(CHECKOUT):
        location, variables = f"./{deploy.relative_to(CHECKOUT).as_posix()}", {}
    else:
        location, variables = (
            f"{ENV_PREFIX}{DEPLOY_VARIABLE}",
            {DEPLOY_VARIABLE: deployment.model_dump_json(exclude_unset=True)},
        )
    job_config = config.model_copy(update={"deploy": location})
    command, config_variables = job_command(FINETUNE, path, job_config, [*overrides, f"deploy={json.dumps(location)}"])
    return command, variables | config_variables


def job_command(
    module: str, path: Path, config: StrictConfig, overrides: Sequence[str], *options: str
) -> tuple[str, dict[str, str]]:
    """Returns the job's command line, and the environment variables that it needs.

    `config` is the config that was loaded from `path` with `overrides`. A file in the checkout is passed by its path
    with --set options, and its relative paths refer to the cluster's copy of the checkout. Any other file, and a config
    with a secret in an override, is passed as resolved JSON in CONFIG_VARIABLE: Ray shows the command line to everyone
    who may list jobs.
    """
    resolved = path.expanduser().resolve()
    if resolved.is_relative_to(CHECKOUT) and not any(map(holds_secret, overrides)):
        command = ["python", "-m", module, "--config", resolved.relative_to(CHECKOUT).as_posix()]
        for override in overrides:
            command += ["--set", override]
        return shlex.join([*command, *options]), {}
    command = ["python", "-m", module, "--config", f"{ENV_PREFIX}{CONFIG_VARIABLE}", *options]
    return shlex.join(command), {CONFIG_VARIABLE: config.model_dump_json(exclude_unset=True)}
