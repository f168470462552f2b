"""What a job of ours is made of: the checkout, an entry point, where results go, what it must be able to get."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tuneyard.cluster.connection import CHECKOUT
from tuneyard.configs.deploy_after import load_deployment
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import ConfigError
from tuneyard.core.home import tuneyard_home
from tuneyard.core.room_commands import FINETUNE
from tuneyard.core.strict_config import ENV_PREFIX, StrictConfig
from tuneyard.storage.folder import default_storage

FORWARDED = (
    "TUNEYARD_STORAGE",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "HF_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_TENANT_ID",
    "TUNEYARD_ADMIN_KEY",
)
"""Environment variables that a job gets from whoever submits it, where they are set."""

SECRET_WORDS = ("TOKEN", "SECRET", "KEY", "PASSWORD")
_USER_INFO = re.compile(r"//[^/@\s]+@")
CONFIG_VARIABLE, DEPLOY_VARIABLE = "TUNEYARD_CONFIG", "TUNEYARD_DEPLOY_CONFIG"
"""Hold configs that do not lie in the checkout."""

WORKER_FIELDS = "workers.num_workers, workers.cpus_per_worker, workers.memory_gib_per_worker, workers.use_gpu"
WAIT_FIELD = "workers.wait_for_nodes"


def job_environment(server: str, more: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What Ray gives the job: the checkout, the library, and environment variables.

    Raises ConfigError when the job's results would go to a folder that only this machine knows.
    """
    if not (CHECKOUT / "jobs").is_dir():
        raise ConfigError(
            f"{CHECKOUT} is no checkout of Tuneyard, which is what the cluster gets: install it from one, "
            "with pip install -e <checkout>."
        )
    if "TUNEYARD_HOME" not in {*os.environ, *(more or {})} and urlsplit(server).hostname not in (
        "127.0.0.1",
        "localhost",
        "::1",
    ):
        raise ConfigError(
            f"TUNEYARD_HOME is not set, and {server} is another machine: set it to the folder there that holds the "
            "registry, for example export TUNEYARD_HOME=/mnt/shared/tuneyard"
        )
    forwarded = {name: os.environ[name] for name in FORWARDED if name in os.environ}
    return {
        "working_dir": str(CHECKOUT),
        "py_modules": [str(CHECKOUT / "platform" / "tuneyard")],
        "env_vars": {"TUNEYARD_HOME": str(tuneyard_home()), **forwarded, **(more or {})},
    }


def shown_environment(environment: Mapping[str, Any]) -> dict[str, Any]:
    """The same without secrets, to print."""
    variables: dict[str, str] = environment["env_vars"]
    return {
        **environment,
        "env_vars": {
            name: "(set)" if any(word in name for word in SECRET_WORDS) else _USER_INFO.sub("//(set)@", value)
            for name, value in variables.items()
        },
    }


def finetune_command(path: Path, config: FinetuneConfig, overrides: Sequence[str]) -> tuple[str, dict[str, str]]:
    """job_command of a run, with the deployment that is to follow it. Raises ConfigError when that is none of the run's
    model.
    """
    storage = config.run.storage
    if storage not in (default_storage(), str(tuneyard_home())) and Path(storage).is_relative_to(CHECKOUT):
        raise ConfigError(
            f"run.storage: {storage} lies in the checkout, of which the cluster gets a copy that it throws away. Give "
            "a folder of the cluster, absolute, or the URI of an object store."
        )
    if config.deploy is None:
        return job_command(FINETUNE, path, config, overrides)
    deployment = load_deployment(config)
    deploy = Path(config.deploy)
    if deploy.is_relative_to(CHECKOUT):
        place, variables = f"./{deploy.relative_to(CHECKOUT).as_posix()}", {}
    else:
        place, variables = (
            f"{ENV_PREFIX}{DEPLOY_VARIABLE}",
            {DEPLOY_VARIABLE: deployment.model_dump_json(exclude_unset=True)},
        )
    changed = config.model_copy(update={"deploy": place})
    command, more = job_command(FINETUNE, path, changed, [*overrides, f"deploy={json.dumps(place)}"])
    return command, variables | more


def job_command(
    module: str, path: Path, config: StrictConfig, overrides: Sequence[str], *more: str
) -> tuple[str, dict[str, str]]:
    """The job's entry point, and the environment variables that it needs.

    A config in the checkout travels with it, and its relative paths are the checkout's. One that lies elsewhere
    travels as it was resolved here.
    """
    resolved = path.expanduser().resolve()
    if resolved.is_relative_to(CHECKOUT):
        command = ["python", "-m", module, "--config", resolved.relative_to(CHECKOUT).as_posix()]
        for override in overrides:
            command += ["--set", override]
        return shlex.join([*command, *more]), {}
    command = ["python", "-m", module, "--config", f"{ENV_PREFIX}{CONFIG_VARIABLE}", *more]
    return shlex.join(command), {CONFIG_VARIABLE: config.model_dump_json(exclude_unset=True)}
