"""WandbConfig: the run at Weights & Biases that gets the metrics of a finetuning run; and what it needs."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, field_validator

from tuneyard.core.errors import ConfigError, MissingDependencyError
from tuneyard.core.strict_model import StrictConfig

API_KEY_VARIABLE = "WANDB_API_KEY"
MODE_VARIABLE = "WANDB_MODE"

WandbText = Annotated[str, Field(min_length=1, max_length=128)]
WandbName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^/\\#?%:\s]([^/\\#?%:]*[^/\\#?%:\s])?$")]
"""A name that is a part of a W&B URL, so it has no `/ \\ # ? % :`. Source: wandb 0.31, wandb_settings.py."""

WandbTag = Annotated[str, Field(min_length=1, max_length=64)]
WandbTags = Annotated[tuple[WandbTag, ...], Field(max_length=20)]


class WandbServerConfig(StrictConfig):
    """Weights & Biases, whose API key is in the environment variable WANDB_API_KEY. It gets metrics and settings of
    runs, and no text of their data. It needs the extra `wandb`."""

    base_url: str | None = Field(default=None, pattern=r"^https?://[^\s]+$")
    """URL of a server of your own, without a user or a query. null: the one that the package wandb is made for."""

    entity: WandbName | None = None
    """The user or team whose project it is. null: the default of the API key."""

    @field_validator("base_url", mode="before")
    @classmethod
    def _check_base_url(cls, url: object) -> object:
        # Before the pattern is checked, whose message shows the value.
        if isinstance(url, str) and any(mark in url for mark in "@?#"):
            raise ValueError(
                "the URL holds a user or a query, which would be copied into logs. Remove it, and give the API key in "
                f"{API_KEY_VARIABLE}"
            )
        return url


class WandbConfig(WandbServerConfig):
    """One run at Weights & Biases."""

    project: WandbName
    """The project that shows the run. It is created if it does not exist."""

    name: WandbText | None = None
    """Name of the run there. null: `run.name`."""

    tags: WandbTags = ()
    """Tags of the run there."""

    run_id: WandbName | None = None
    """Id of the run there; a run that is resumed goes on under it. null: made of `run.name` and MLflow's id of the run,
    so that a run that is started over is another one there."""


def check_wandb(field: str, environment: Mapping[str, str], package: str = "wandb") -> None:
    """Checks that a process with this environment can send metrics; `field` is the config field that demands it.

    Raises MissingDependencyError without the package, ConfigError without an API key. With WANDB_MODE=offline nothing
    is sent, and no key is needed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:  # a folder `wandb`, in which the package keeps runs, has no origin
        raise MissingDependencyError(
            f"The config has {field}, which needs the package {package}, and it is not installed. Run: pip install "
            f"'tuneyard[{package}]' on every node, or remove {field}."
        )
    if not environment.get(API_KEY_VARIABLE) and environment.get(MODE_VARIABLE) != "offline":
        raise ConfigError(
            f"The config has {field}, and the environment variable {API_KEY_VARIABLE} is not set. Set it to an API key "
            f"of Weights & Biases where this starts, or remove {field}."
        )


def wandb_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of this environment that check_wandb reads, for a process that sends metrics elsewhere."""
    return {name: environment[name] for name in (API_KEY_VARIABLE, MODE_VARIABLE) if environment.get(name)}
