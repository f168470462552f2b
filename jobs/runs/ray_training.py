"""Training on Ray: runs the worker group of a run, and returns the checkpoint to export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TextIO

import ray.train
from ray.train.torch import TorchTrainer

from jobs.runs.node_notices import ClusterEvents
from jobs.runs.prepared_run import PreparedRun
from jobs.runs.progress import LogPoints, TrainingProgress
from jobs.runs.run_record import TRAIN_STATE, RunFolder
from jobs.workers.placement import expected_files
from jobs.workers.worker_group import create_worker_group, fit
from jobs.workers.worker_loop import train_loop_per_worker
from tuneyard.checkpoints.folder_index import LISTING_NAME, FolderIndex
from tuneyard.checkpoints.transfer import upload
from tuneyard.cluster.driver_channel import DriverChannel
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import TrainingError
from tuneyard.storage.folder import StorageFolder
from tuneyard.storage.location import is_uri
from tuneyard.storage.retrying_filesystem import retrying_filesystem
from tuneyard.training_data.token_store import TokenStore


@dataclass(frozen=True, slots=True)
class TrainOutcome:
    """The checkpoint to export, on the run's storage, and the last value of every metric at its step."""

    checkpoint: ray.train.Checkpoint
    metrics: dict[str, float]
    earlier: tuple[TrainOutcome, ...] = ()
    """The checkpoints before it that are to be exported too, oldest first, each with the metrics at its own step."""


def train_on_ray(
    config: FinetuneConfig,
    prepared: PreparedRun,
    folder: RunFolder,
    log: LogPoints,
    stream: TextIO | None = None,
) -> TrainOutcome:
    """Trains in a Ray Train worker group, from the run's last checkpoint if there is one.

    Progress is shown on `stream`; None is standard error.

    Raises TrainingError, or the TuneyardError that a worker raised, when the workers fail more often than
    `workers.max_failures`.
    """
    events = DriverChannel()
    try:
        with TrainingProgress(ClusterEvents(events, config.workers), log, stream) as progress:
            result = fit(_create_trainer(config, prepared, folder, events))
    except TrainingError as e:
        raise TrainingError(
            f"{e}\nCheckpoints are kept in {folder.location}. Run the same command again to continue from the last one."
        ) from e
    finally:
        events.close()
    kept = [TrainOutcome(checkpoint, dict(metrics)) for checkpoint, metrics in result.best_checkpoints or ()]
    last = dict(progress.latest or result.metrics or {})
    return choose_checkpoints(config, kept, TrainOutcome(result.checkpoint, last) if result.checkpoint else None)


def _create_trainer(
    config: FinetuneConfig, prepared: PreparedRun, folder: RunFolder, events: DriverChannel
) -> TorchTrainer:
    stops_early = config.training.early_stopping_patience is not None
    train_tokens = _shared_tokens(prepared.train_tokens, config)
    loop_config = {
        "config": config.model_dump_json(),
        "train": train_tokens,
        "heldout": _shared_tokens(prepared.heldout_tokens, config) if prepared.heldout_tokens is not None else None,
        "expected_files": expected_files(config, train_tokens),
        "run_state": folder.train_state.location,
        "events": events,
    }
    run_config = ray.train.RunConfig(
        name=TRAIN_STATE,
        storage_path=str(folder.storage.local or folder.storage.path),
        storage_filesystem=None if folder.storage.local else retrying_filesystem(folder.storage),
        failure_config=ray.train.FailureConfig(max_failures=config.workers.max_failures),
        checkpoint_config=ray.train.CheckpointConfig(
            num_to_keep=config.run.kept_checkpoints,
            checkpoint_score_attribute="eval_loss" if stops_early else None,
            checkpoint_score_order="min",
        ),
    )
    return create_worker_group(config, train_loop_per_worker, loop_config, run_config)


def _shared_tokens(store: TokenStore, config: FinetuneConfig) -> str:
    """The location of the token store that workers on all nodes can read; uploads it if `run.storage` is a URI."""
    if not is_uri(config.run.storage):
        return str(store.path)
    target = StorageFolder.open(config.run.storage).child("tokens", store.path.name)
    # The folder's name is the fingerprint of its rows, so a finished upload of that name holds the same rows.
    if target.size_of(LISTING_NAME) is None:
        upload(store.path, target, FolderIndex.of_files(store.path))
    return target.location


def choose_checkpoints(config: FinetuneConfig, kept: Sequence[TrainOutcome], last: TrainOutcome | None) -> TrainOutcome:
    """The last checkpoint, or with early stopping the one with the lowest held-out loss, measured at its own step; with
    the newest of the kept ones before it, as many as the config says.

    Raises TrainingError if there is none.
    """
    chosen = last
    scored = [each for each in kept if "eval_loss" in each.metrics]
    if config.training.early_stopping_patience is not None and scored:
        chosen = min(scored, key=lambda each: each.metrics["eval_loss"])
    if chosen is None:
        raise TrainingError("Training ended without a checkpoint, because it had no step to do. Raise training.epochs.")
    end = chosen.metrics.get("step", 0)
    before = sorted(
        (each for each in kept if 0 < each.metrics.get("step", 0) < end), key=lambda each: each.metrics["step"]
    )
    count = config.run.exported_checkpoints - 1
    return replace(chosen, earlier=tuple(before[-count:]) if count else ())
