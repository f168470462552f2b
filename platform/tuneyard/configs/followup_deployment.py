"""The deployment that a run starts when its model is registered, checked before the run starts."""

from __future__ import annotations

from pathlib import Path

from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.configs.serve import ServeConfig
from tuneyard.core.config_loading import load_config
from tuneyard.core.errors import ConfigError


def load_deployment(config: FinetuneConfig) -> ServeConfig:
    """Returns the config that `deploy`, which must be set, names.

    Raises ConfigError if it is not a valid deployment or does not serve the newest version of the run's model.
    """
    assert config.deploy is not None
    deployment = load_config(ServeConfig, Path(config.deploy))
    served = [model.checkpoint for model in deployment.models]
    # A run moves only the alias `newest`.
    if f"{config.run.model_name}@newest" not in served:
        raise ConfigError(
            f"deploy: {config.deploy} serves {', '.join(served)}, but not the model of this run. Set the checkpoint of "
            f"one of its models: checkpoint: {config.run.model_name}@newest"
        )
    return deployment
