"""PlatformBaseConfig: a base that fine-tuning jobs may name, and how models tuned from it are served."""

from __future__ import annotations

from pydantic import Field

from tuneyard.configs.engine import EngineConfig
from tuneyard.configs.replicas import ReplicaConfig
from tuneyard.core.path_fields import ConfigLocation
from tuneyard.core.strict_model import StrictConfig


class PlatformBaseConfig(StrictConfig):
    """A base that fine-tuning jobs may name as their model."""

    config: ConfigLocation
    """YAML file of a finetuning run, the template of each job on this base; or `env:NAME`. A job sets its own data,
    name, method and hyperparameters."""

    aliases: tuple[str, ...] = ()
    """Other names of the base, such as gpt-4o-mini-2024-07-18, so that code written for OpenAI keeps its model names.
    A job's `model` is this base, and an event of the job says which name was sent."""

    dpo_learning_rate: float | None = Field(default=None, gt=0)
    """Learning rate of jobs with the method dpo. null: a twentieth of the template's."""

    checkpoints: int = Field(default=3, ge=1, le=3)
    """Checkpoints of a job that answer by their names, the model at the end included: the last ones that training
    saved, at the end of each epoch or every `training.checkpoint_every_steps` steps of the template. 3 is OpenAI's
    number. Each takes the time of an export and the disk space of a model. 1: only the model at the end."""

    engine: EngineConfig = EngineConfig()
    """The engine that serves the tuned models of this base."""

    replicas: ReplicaConfig = ReplicaConfig(
        num_replicas=None, autoscaling_config={"min_replicas": 0, "max_replicas": 1}
    )
    """The replicas of a tuned model of this base. By default it has none until a request comes. The models of earlier
    checkpoints have none until a request comes, whatever this says."""
