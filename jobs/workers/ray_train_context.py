"""RayTrainContext: a worker's TrainContext on Ray Train, with its reports and checkpoint uploads."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ray.train
from ray.exceptions import RayError

from tuneyard.checkpoints.transfer import upload_files
from tuneyard.cluster.driver_channel import DriverChannel
from tuneyard.storage.folder import StorageFolder
from tuneyard.storage.retrying_filesystem import retrying_filesystem

WORK_DIR_PREFIX = "tuneyard-worker-"

logger = logging.getLogger(__name__)


class RayTrainContext:
    """See TrainContext.

    `run_state` is the folder where Ray Train keeps the run's checkpoints. `resume_stack` holds the local copy of the
    checkpoint to resume from; the copy is deleted at the first report of a new checkpoint.
    """

    def __init__(
        self, events: DriverChannel, work_dir: Path, run_state: StorageFolder, resume_stack: contextlib.ExitStack
    ) -> None:
        context = ray.train.get_context()
        self.rank: int = context.get_world_rank()
        self.world_size: int = context.get_world_size()
        self.work_dir = work_dir
        checkpoint = ray.train.get_checkpoint()
        self.resume_from = Path(resume_stack.enter_context(checkpoint.as_directory())) if checkpoint else None
        self._resume_stack = resume_stack
        self._events = events
        self._run_state = run_state

    def report_metrics(self, metrics: dict[str, float]) -> None:
        # Not through ray.train.report, which would stop every worker until the controller's next poll.
        try:
            self._events.send({**metrics, "workers": float(self.world_size)})
        except RayError as e:
            logger.warning("The metrics of step %d could not be sent to the driver: %s", int(metrics["step"]), e)

    def report_checkpoint(self, metrics: dict[str, float], folder: Path) -> None:
        self._resume_stack.close()
        # Ray merges the folders of all ranks into one checkpoint. The call returns when it is stored, so the checkpoint
        # survives whatever happens to the workers next.
        folder.mkdir(parents=True, exist_ok=True)
        upload = None if self._run_state.local is not None else self._upload_checkpoint
        ray.train.report(
            metrics, checkpoint=ray.train.Checkpoint.from_directory(str(folder)), checkpoint_upload_fn=upload
        )

    def _upload_checkpoint(self, checkpoint: ray.train.Checkpoint, name: str) -> ray.train.Checkpoint:
        """Uploads to an object store with retries.

        Ray's own upload takes some failed uploads for complete ones; see tuneyard.checkpoints.transfer.
        """
        target = self._run_state.child(name)
        upload_files(Path(checkpoint.path), target)
        return ray.train.Checkpoint(target.path, retrying_filesystem(target))


@contextlib.contextmanager
def ray_train_context(events: DriverChannel, run_state: StorageFolder) -> Iterator[RayTrainContext]:
    """The context of this worker, with a scratch folder that is deleted at the end."""
    remove_work_dirs_of_dead_workers()
    with (
        tempfile.TemporaryDirectory(prefix=f"{WORK_DIR_PREFIX}{os.getpid()}-") as work_dir,
        contextlib.ExitStack() as resume_stack,
    ):
        yield RayTrainContext(events, Path(work_dir), run_state, resume_stack)


def remove_work_dirs_of_dead_workers() -> None:
    """Deletes the scratch folders of killed workers on this node. Each may be as large as a checkpoint."""
    for path in Path(tempfile.gettempdir()).glob(f"{WORK_DIR_PREFIX}*-*"):
        pid = path.name.removeprefix(WORK_DIR_PREFIX).partition("-")[0]
        # All workers of a node start at the same time, so another one may have removed the folder meanwhile.
        with contextlib.suppress(FileNotFoundError):
            if pid.isdigit() and not Path(f"/proc/{pid}").exists() and path.stat().st_uid == os.getuid():
                shutil.rmtree(path, ignore_errors=True)
