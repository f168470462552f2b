"""What each Ray Train worker runs: the context over Ray Train, then the backend."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray.train
from ray.exceptions import RayError

from jobs.runs.backend_factory import create_backend
from jobs.runs.local_base import with_local_base
from jobs.runs.run_record import train_state
from jobs.training.backend import TokenFiles
from tuneyard.checkpoints.node_cache import local_folder
from tuneyard.checkpoints.transfer import upload_files
from tuneyard.cluster.driver_channel import DriverChannel
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.storage.folder import StorageFolder
from tuneyard.storage.retrying_filesystem import patient_filesystem

WORK_PREFIX = "tuneyard-worker-"

logger = logging.getLogger(__name__)


def train_loop_per_worker(loop_config: dict[str, Any]) -> None:
    """Entry point for TorchTrainer.

    `loop_config` holds `config` (FinetuneConfig as JSON), `train` and `heldout` (locations of
    token stores) and `events` (the DriverChannel).
    """
    asked = FinetuneConfig.model_validate_json(loop_config["config"])
    config = with_local_base(asked)
    heldout = loop_config["heldout"]
    tokens = TokenFiles(local_folder(loop_config["train"]), local_folder(heldout) if heldout else None)
    with _ray_train_context(loop_config["events"], train_state(asked)) as context:
        create_backend(config).train(config, tokens, context)


class RayTrainContext:
    """TrainContext over ray.train."""

    def __init__(
        self, events: DriverChannel, work_dir: Path, state: StorageFolder, resuming: contextlib.ExitStack
    ) -> None:
        """`resuming` holds the copy of the checkpoint to go on from, if the storage is no folder."""
        context = ray.train.get_context()
        self.rank: int = context.get_world_rank()
        self.world_size: int = context.get_world_size()
        self.work_dir = work_dir
        checkpoint = ray.train.get_checkpoint()
        self.resume_from = Path(resuming.enter_context(checkpoint.as_directory())) if checkpoint else None
        self._resuming = resuming
        self._events = events
        self._state = state

    def report_metrics(self, metrics: dict[str, float]) -> None:
        # ray.train.report would hold every worker until the controller's next poll.
        try:
            self._events.send({**metrics, "workers": float(self.world_size)})
        except RayError as e:
            logger.warning("Step %d could not be told to the driver: %s", int(metrics["step"]), e)

    def report_checkpoint(self, metrics: dict[str, float], folder: Path) -> None:
        self._resuming.close()  # what was resumed from has been read long since
        # Ray merges what the ranks report into one checkpoint; synchronous, so that it survives what follows.
        folder.mkdir(parents=True, exist_ok=True)
        upload = None if self._state.local is not None else self._upload
        ray.train.report(
            metrics, checkpoint=ray.train.Checkpoint.from_directory(str(folder)), checkpoint_upload_fn=upload
        )

    def _upload(self, checkpoint: ray.train.Checkpoint, name: str) -> ray.train.Checkpoint:
        """Instead of Ray's own way, which takes some failed uploads for done (tuneyard.checkpoints.transfer)."""
        target = self._state.child(name)
        upload_files(Path(checkpoint.path), target)
        return ray.train.Checkpoint(target.path, patient_filesystem(target))


@contextlib.contextmanager
def _ray_train_context(events: DriverChannel, state: StorageFolder) -> Iterator[RayTrainContext]:
    _remove_leftovers()
    with (
        tempfile.TemporaryDirectory(prefix=f"{WORK_PREFIX}{os.getpid()}-") as work_dir,
        contextlib.ExitStack() as resuming,
    ):
        yield RayTrainContext(events, Path(work_dir), state, resuming)


def _remove_leftovers() -> None:
    """Of workers on this node that were killed: each may be as large as a checkpoint."""
    for path in Path(tempfile.gettempdir()).glob(f"{WORK_PREFIX}*-*"):
        pid = path.name.removeprefix(WORK_PREFIX).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists() and path.stat().st_uid == os.getuid():
            shutil.rmtree(path, ignore_errors=True)
