"""What each Ray Train worker runs: the context over Ray Train, then the backend."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray.train

from jobs.training_backend import TokenFiles, create_backend
from tuneyard.finetune_config import FinetuneConfig


def train_loop_per_worker(loop_config: dict[str, Any]) -> None:
    """Entry point for TorchTrainer.

    `loop_config` holds `config` (FinetuneConfig as JSON), `train` and `heldout` (folders of
    token stores) and `events` (a ray.util.queue.Queue that the driver reads).
    """
    config = FinetuneConfig.model_validate_json(loop_config["config"])
    heldout = loop_config["heldout"]
    tokens = TokenFiles(train=Path(loop_config["train"]), heldout=Path(heldout) if heldout else None)
    with _ray_train_context(loop_config["events"]) as context:
        create_backend(config).train(config, tokens, context)


class RayTrainContext:
    """TrainContext over ray.train."""

    def __init__(self, events: Any, work_dir: Path, resume_from: Path | None) -> None:
        context = ray.train.get_context()
        self.rank: int = context.get_world_rank()
        self.world_size: int = context.get_world_size()
        self.work_dir = work_dir
        self.resume_from = resume_from
        self._events = events

    def report_metrics(self, metrics: dict[str, float]) -> None:
        # Through a queue: ray.train.report would hold every worker until the controller's next poll.
        self._events.put_nowait(metrics)

    def report_checkpoint(self, metrics: dict[str, float], folder: Path) -> None:
        # Ray merges what the ranks report into one checkpoint; synchronous, so that it survives what follows.
        folder.mkdir(parents=True, exist_ok=True)
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(str(folder)))


@contextlib.contextmanager
def _ray_train_context(events: Any) -> Iterator[RayTrainContext]:
    with tempfile.TemporaryDirectory(prefix="tuneyard-worker-") as work_dir, contextlib.ExitStack() as stack:
        checkpoint = ray.train.get_checkpoint()
        resume_from = Path(stack.enter_context(checkpoint.as_directory())) if checkpoint else None
        yield RayTrainContext(events, Path(work_dir), resume_from)
