"""The two things that a run does on Ray: train in a worker group, export in a task."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer

from jobs.checkpoints.proved_export import PROBE_ROWS, export_and_prove
from jobs.runs.backend_factory import create_backend
from jobs.runs.lean_trainer import LeanTrainer
from jobs.runs.local_base import with_local_base
from jobs.runs.preflight import PreparedRun
from jobs.runs.progress import LogPoints, TrainingProgress
from jobs.runs.run_record import TRAIN_STATE, RunFolder
from jobs.runs.worker_loop import train_loop_per_worker
from tuneyard.checkpoints.manifest import BaseReference, CheckpointManifest, CodecReference, DatasetReference
from tuneyard.checkpoints.node_cache import release
from tuneyard.checkpoints.publishing import next_version, version_in
from tuneyard.checkpoints.transfer import LISTING_NAME, Index, upload
from tuneyard.cluster.connection import check_placement
from tuneyard.cluster.driver_channel import DriverChannel
from tuneyard.cluster.job_submission import WAIT_FIELD, WORKER_FIELDS
from tuneyard.configs.finetune import FinetuneConfig, WorkersConfig
from tuneyard.core.errors import TrainingError, TuneyardError
from tuneyard.doctor.shared_paths import check_seen_by_nodes
from tuneyard.storage.folder import StorageFolder, child_location, is_uri
from tuneyard.storage.retrying_filesystem import patient_filesystem
from tuneyard.training_data.token_store import TokenStore, open_token_rows
from tuneyard.training_data.token_table import TOKEN_COLUMNS

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainOutcome:
    """The checkpoint to export, on storage, and the last metrics."""

    checkpoint: ray.train.Checkpoint
    metrics: dict[str, float]


def train_on_ray(
    config: FinetuneConfig,
    prepared: PreparedRun,
    folder: RunFolder,
    log: LogPoints,
) -> TrainOutcome:
    """Trains in a Ray Train worker group, or goes on where the run of this folder stopped.

    Raises TrainingError when the workers fail more often than `workers.max_failures`.
    """
    events = DriverChannel()
    try:
        with TrainingProgress(_ChannelEvents(events, config.workers), log) as progress:
            result = fit(_trainer(config, prepared, folder, events))
    except TrainingError as e:
        raise TrainingError(
            f"{e}\nCheckpoints are kept in {folder.location}; the same command goes on from the last one."
        ) from e
    finally:
        events.close()
    checkpoint = _checkpoint_to_export(config, result)
    return TrainOutcome(checkpoint, dict(progress.last or result.metrics or {}))


def fit(trainer: TorchTrainer) -> Any:
    """The trainer's result. Ctrl-C raises KeyboardInterrupt here; what the workers raised on purpose, or else a
    TrainingError that shows the first failure, is raised when they fail more often than the trainer allows.
    """
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    in_main_thread = threading.current_thread() is threading.main_thread()
    on_interrupt = signal.getsignal(signal.SIGINT) if in_main_thread else None
    try:
        return trainer.fit()
    except ray.train.TrainingFailedError as e:
        raise _as_tuneyard_error(e) from e
    except SystemExit as e:
        # Ray Train's own SIGINT handler aborts the run and exits without a word.
        raise KeyboardInterrupt from e
    finally:
        if on_interrupt is not None:
            signal.signal(signal.SIGINT, on_interrupt)


def check_workers(config: FinetuneConfig, what: str) -> str:
    """check_placement for the config's workers."""
    workers = config.workers
    return check_placement(
        [workers.need], what, wait_for_nodes=workers.wait_for_nodes, fields=WORKER_FIELDS, wait_field=WAIT_FIELD
    )


def check_files(config: FinetuneConfig) -> None:
    """Refuses storage or a base that a node which may get a worker does not see."""
    places = {"run.storage": config.run.storage, "model.base": child_location(config.model.base, "config.json")}
    check_seen_by_nodes(places, [config.workers.need])


def export_on_ray(
    config: FinetuneConfig, prepared: PreparedRun, outcome: TrainOutcome, run_id: str | None
) -> tuple[CheckpointManifest, str]:
    """Exports in a Ray task, with a worker's resources; returns the manifest and the published folder."""
    probes = prepared.heldout_tokens if prepared.heldout_tokens is not None else prepared.train_tokens
    stored = open_token_rows(probes.path).select_columns(list(TOKEN_COLUMNS))
    rows = stored.select(range(min(PROBE_ROWS, len(stored)))).to_list()
    lineage: dict[str, Any] = {
        "base": BaseReference(name=version_in(config.model.base), digest=prepared.base_digest),
        "dataset": DatasetReference(
            fingerprint=prepared.dataset_fingerprint,
            rows=prepared.train.rows,
            files=tuple(str(path) for path in (config.data.train, config.data.heldout) if path),
        ),
        "codec": CodecReference(settings=config.codec.model_dump(mode="json"), fingerprint=prepared.codec_fingerprint),
        "parity": [row.model_dump(mode="json", exclude_defaults=True) for row in prepared.parity_rows],
        "metrics": {k: v for k, v in outcome.metrics.items() if k in ("step", "epoch", "loss", "eval_loss")},
        "run_id": run_id,
        "config": config.model_dump(mode="json"),
    }
    models = child_location(config.run.storage, "models", config.run.model_name)
    target = next_version(models, run_id or config.run.name)
    task = ray.remote(_export_task).options(**_task_options(config.workers), max_retries=0)
    try:
        return ray.get(task.remote(config, outcome.checkpoint, target, rows, lineage)), target
    except ray.exceptions.RayTaskError as e:
        if isinstance(e.cause, TuneyardError):
            raise e.cause from e
        raise


def _task_options(workers: WorkersConfig) -> dict[str, Any]:
    """A worker's resources, for a task."""
    each = dict(workers.need.each)
    known = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
    options: dict[str, Any] = {option: each.pop(name) for name, option in known.items() if name in each}
    return options | {"resources": each}


def _export_task(
    config: FinetuneConfig,
    trained: ray.train.Checkpoint,
    target: str,
    rows: list[dict[str, list[int]]],
    lineage: dict[str, Any],
) -> CheckpointManifest:
    here = with_local_base(config)
    try:
        with trained.as_directory() as folder:
            return export_and_prove(create_backend(here), here, Path(folder), target, rows, lineage)
    finally:
        # This process outlives the task.
        release(here.model.folder)


def _shared(store: TokenStore, config: FinetuneConfig) -> str:
    """The store where the workers of all nodes find it."""
    if not is_uri(config.run.storage):
        return str(store.path)
    target = StorageFolder.open(config.run.storage).child("tokens", store.path.name)
    # The folder is named by what decides the rows, so one that is finished is this one.
    if target.size_of(LISTING_NAME) is None:
        upload(store.path, target, Index.of_files(store.path))
    return target.location


class _ChannelEvents:
    """EventSource over a channel and Ray's list of nodes."""

    def __init__(self, channel: DriverChannel, workers: WorkersConfig) -> None:
        self._channel = channel
        room = "as soon as there is room for its workers: start the node again, or add one"
        fewer = "with the workers that there is room for, a minute from now"
        how = fewer if len(workers.sizes) > 1 else room
        self._then = f"If it had a worker, the run goes on from its last checkpoint {how}"
        self._nodes = _alive_nodes()

    def next_events(self) -> list[dict[str, float]]:
        try:
            return self._channel.receive()
        except ray.exceptions.RayError as e:
            logger.warning("The progress is not known now: %s", e)
            return []

    def notices(self) -> list[str]:
        before, self._nodes = self._nodes, _alive_nodes()
        gone = [f"node {before[node]} is gone" for node in before.keys() - self._nodes.keys()]
        come = [f"node {self._nodes[node]} has come" for node in self._nodes.keys() - before.keys()]
        after = f"the cluster has {len(self._nodes)} node(s) now"
        return [f"{what}; {after}. {self._then}" for what in gone] + [f"{what}; {after}" for what in come]


def _alive_nodes() -> dict[str, str]:
    """Address and beginning of the id by id: nodes may share a machine."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    return {node["NodeID"]: f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})" for node in alive}


def worker_group(
    config: FinetuneConfig,
    loop: Callable[[dict[str, Any]], None],
    loop_config: dict[str, Any],
    run: ray.train.RunConfig,
) -> TorchTrainer:
    """A group of the config's workers, in one process group, each running `loop`."""
    workers = config.workers
    return LeanTrainer(
        loop,
        train_loop_config=loop_config,
        torch_config=TorchConfig(backend="nccl" if workers.use_gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers.num_workers if len(workers.sizes) == 1 else (workers.sizes[0], workers.sizes[-1]),
            use_gpu=workers.use_gpu,
            resources_per_worker=dict(workers.need.each),
            placement_strategy="SPREAD" if workers.spread else "PACK",
        ),
        run_config=run,
    )


def _trainer(config: FinetuneConfig, prepared: PreparedRun, folder: RunFolder, events: DriverChannel) -> TorchTrainer:
    early = config.training.early_stopping_patience is not None
    loop_config = {
        "config": config.model_dump_json(),
        "train": _shared(prepared.train_tokens, config),
        "heldout": _shared(prepared.heldout_tokens, config) if prepared.heldout_tokens is not None else None,
        "events": events,
    }
    run = ray.train.RunConfig(
        name=TRAIN_STATE,
        storage_path=str(folder.storage.local or folder.storage.path),
        storage_filesystem=None if folder.storage.local else patient_filesystem(folder.storage),
        failure_config=ray.train.FailureConfig(max_failures=config.workers.max_failures),
        checkpoint_config=ray.train.CheckpointConfig(
            num_to_keep=2,
            checkpoint_score_attribute="eval_loss" if early else None,
            checkpoint_score_order="min",
        ),
    )
    return worker_group(config, train_loop_per_worker, loop_config, run)


def _checkpoint_to_export(config: FinetuneConfig, result: Any) -> ray.train.Checkpoint:
    if config.training.early_stopping_patience is not None and result.best_checkpoints:
        best, _ = min(result.best_checkpoints, key=lambda pair: pair[1].get("eval_loss", float("inf")))
        return best
    if result.checkpoint is None:
        raise TrainingError("Training ended without a checkpoint: it had no step to do. Raise training.epochs.")
    return result.checkpoint


def _as_tuneyard_error(error: ray.train.TrainingFailedError) -> TuneyardError:
    """The workers' own TuneyardError if there is one, else a TrainingError that shows the first failure."""
    failures = list(getattr(error, "worker_failures", {}).values())
    for failure in failures:
        cause: BaseException | None = failure
        while cause is not None:
            if isinstance(cause, TuneyardError):
                return cause
            cause = getattr(cause, "cause", None) or cause.__cause__
    return TrainingError(f"The workers failed: {failures[0] if failures else error}")
