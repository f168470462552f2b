"""Creates the training backend that a config names; the only importer of the backends' adapters."""

from __future__ import annotations

from jobs.training.backend import TrainingBackend
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import MissingDependencyError


def create_backend(config: FinetuneConfig) -> TrainingBackend:
    """The backend that `training.backend` names. Raises MissingDependencyError when its package is not installed."""
    match config.training.backend:
        case "transformers":
            from jobs.training.transformers_backend import TransformersBackend

            return TransformersBackend()
        case "nemo":
            try:
                from jobs.nemo.backend import NemoBackend
            except ModuleNotFoundError as e:
                if e.name not in ("nemo", "nemo_run", "megatron"):
                    raise
                raise MissingDependencyError(
                    "training.backend=nemo needs NeMo, which is not installed in this environment. Create NeMo's "
                    "environment with: make nemo-env"
                ) from e
            return NemoBackend()
