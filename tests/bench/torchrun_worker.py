"""A torchrun worker with the same backend and without Ray. Rank 0 writes tokens/s to a log, one line per step."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import torch.distributed

from jobs.training.backend import TokenFiles
from jobs.workers.backend_factory import create_backend
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.config_loading import load_config


class TorchrunContext:
    """A TrainContext without Ray. Checkpoints stay in the folder where the Trainer wrote them."""

    resume_from = None

    def __init__(self, work_dir: Path, log: Path) -> None:
        self.rank = int(os.environ["RANK"])
        self.world_size = int(os.environ["WORLD_SIZE"])
        self.work_dir = work_dir
        self._log = log

    def report_metrics(self, metrics: dict[str, float]) -> None:
        if "tokens_per_s" in metrics:
            with self._log.open("a") as file:
                file.write(f"{metrics['tokens_per_s']}\n")

    def report_checkpoint(self, metrics: dict[str, float], folder: Path) -> None:
        """Does nothing."""


def main() -> None:
    """Trains. The arguments are the config, the token file, the log and overrides."""
    config = load_config(FinetuneConfig, Path(sys.argv[1]), sys.argv[4:])
    log = Path(sys.argv[3])
    if os.environ["RANK"] == "0":
        log.unlink(missing_ok=True)
    torch.distributed.init_process_group("gloo")
    with tempfile.TemporaryDirectory() as work_dir:
        context = TorchrunContext(Path(work_dir), log)
        create_backend(config).train(config, TokenFiles(Path(sys.argv[2]), None), context)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
