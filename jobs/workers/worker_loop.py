"""The training loop that each Ray Train worker runs: it loads the run's files and calls the backend."""

from __future__ import annotations

from typing import Any

from jobs.training.backend import TokenFiles
from jobs.workers.backend_factory import create_backend
from jobs.workers.local_base import with_local_base
from jobs.workers.ray_train_context import ray_train_context
from tuneyard.checkpoints.node_cache import local_folder
from tuneyard.checkpoints.safety.hub_access import disable_hub_access
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.doctor.shared_paths import check_paths_here, check_writable_here
from tuneyard.storage.folder import StorageFolder


def train_loop_per_worker(loop_config: dict[str, Any]) -> None:
    """Trains in this worker. Entry point for TorchTrainer.

    `loop_config` holds `config` (the FinetuneConfig as JSON), `train` and `heldout` (locations of token stores,
    `heldout` may be None), `expected_files` (what the driver's node sees, see check_paths_here), `run_state` (where Ray
    Train keeps the run's checkpoints, a location) and `events` (the DriverChannel for metrics).
    """
    disable_hub_access()
    config = FinetuneConfig.model_validate_json(loop_config["config"])
    # Again here: the node may have joined after the driver's check.
    check_paths_here(loop_config["expected_files"])
    check_writable_here(config.run.storage, "models", config.run.model_name)
    config = with_local_base(config)
    heldout = loop_config["heldout"]
    tokens = TokenFiles(local_folder(loop_config["train"]), local_folder(heldout) if heldout else None)
    run_state = StorageFolder.open(loop_config["run_state"])
    with ray_train_context(loop_config["events"], run_state) as context:
        create_backend(config).train(config, tokens, context)
