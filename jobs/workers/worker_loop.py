"""The training loop that each Ray Train worker runs: it loads the run's files and calls the backend."""

from __future__ import annotations

from typing import Any

from jobs.training.backend import TokenFiles
from jobs.workers.backend_factory import create_backend
from jobs.workers.local_base import with_local_base
from jobs.workers.ray_train_context import ray_train_context
from tuneyard.checkpoints.node_cache import local_folder
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.storage.folder import StorageFolder


def train_loop_per_worker(loop_config: dict[str, Any]) -> None:
    """Trains in this worker. Entry point for TorchTrainer.

    `loop_config` holds `config` (the FinetuneConfig as JSON), `train` and `heldout` (locations of token stores,
    `heldout` may be None), `run_state` (where Ray Train keeps the run's checkpoints, a location) and `events` (the
    DriverChannel for metrics).
    """
    config = with_local_base(FinetuneConfig.model_validate_json(loop_config["config"]))
    heldout = loop_config["heldout"]
    tokens = TokenFiles(local_folder(loop_config["train"]), local_folder(heldout) if heldout else None)
    run_state = StorageFolder.open(loop_config["run_state"])
    with ray_train_context(loop_config["events"], run_state) as context:
        create_backend(config).train(config, tokens, context)
