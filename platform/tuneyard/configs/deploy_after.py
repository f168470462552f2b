"""The deployment that follows a run: its config, found to be one of the run's model before the run starts."""

from __future__ import annotations

from pathlib import Path

from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.configs.serve import ServeConfig
from tuneyard.core.config_loading import load_config
from tuneyard.core.errors import ConfigError


def load_deployment(config: FinetuneConfig) -> ServeConfig:
    """The config that `deploy` names. Raises ConfigError when it is none, or serves no version of the run's model."""
    assert config.deploy is not None
    found = load_config(ServeConfig, Path(config.deploy))
    served = [model.checkpoint for model in found.models]
    # The run moves this alias, and no other.
    if f"{config.run.model_name}@newest" not in served:
        raise ConfigError(
            f"deploy: {config.deploy} serves {', '.join(served)}, and not what this run makes. Give one of its models "
            f"checkpoint: {config.run.model_name}@newest"
        )
    return found
