"""The runtime environment that Ray gives a submitted job: the checkout, the library, environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tuneyard.cluster.connection import CHECKOUT
from tuneyard.cluster.job_secrets import without_own_secrets
from tuneyard.core.errors import ConfigError
from tuneyard.core.home import tuneyard_home

FORWARDED = (
    "TUNEYARD_STORAGE",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "HF_TOKEN",
    "WANDB_API_KEY",
    "WANDB_MODE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_TENANT_ID",
    "TUNEYARD_ADMIN_KEY",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)
"""Environment variables of the submitting shell that its jobs get, if they are set."""

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")


def inherited_environment(variables: Mapping[str, str]) -> dict[str, Any]:
    """Returns the runtime_env of a job that a process of the cluster submits: code and variables are its own.

    A process without a `working_dir` of its own has its code from the node, and so has the job.
    """
    import ray

    own = ray.get_runtime_context().runtime_env
    modules = without_own_secrets(own.get("py_modules") or ())
    code = {name: value for name, value in (("working_dir", own.get("working_dir")), ("py_modules", modules)) if value}
    names = FORWARDED if code else (*FORWARDED, "PYTHONPATH")
    forwarded = {name: os.environ[name] for name in names if name in os.environ}
    return {**code, "env_vars": {"TUNEYARD_HOME": str(tuneyard_home()), **forwarded, **variables}}


def job_environment(server: str, variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Returns the job's runtime_env. `server` is the job server's URL; `variables` are added for this job.

    Raises ConfigError when the job's results would go to a folder that only this machine has, and when Tuneyard is not
    installed from a checkout.
    """
    variables = variables or {}
    if not (CHECKOUT / "jobs").is_dir():
        raise ConfigError(
            f"{CHECKOUT} is not a checkout of Tuneyard, and jobs need one: install Tuneyard with "
            "pip install -e <checkout>."
        )
    if "TUNEYARD_HOME" not in {*os.environ, *variables} and urlsplit(server).hostname not in LOOPBACK_HOSTS:
        raise ConfigError(
            f"TUNEYARD_HOME is not set, and {server} is another machine: set it to the cluster's folder that holds the "
            "registry, for example export TUNEYARD_HOME=/mnt/shared/tuneyard"
        )
    forwarded = {name: os.environ[name] for name in FORWARDED if name in os.environ}
    return {
        "working_dir": str(CHECKOUT),
        "py_modules": [str(CHECKOUT / "platform" / "tuneyard")],
        "env_vars": {"TUNEYARD_HOME": str(tuneyard_home()), **forwarded, **variables},
    }
