"""Imports a run's base model into NeMo 2 format once, on rank 0, for all workers and later runs."""

from __future__ import annotations

import os
import socket
import time
import uuid
from pathlib import Path

import torch.distributed as dist

from jobs.nemo.checkpoint_folders import checkpoint_folder, nemo_base
from jobs.nemo.setup.shared_check import check_written_folder_together
from jobs.training.backend import TrainContext
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import CheckpointError, TrainingError

POLL_INTERVAL_S = 1.0

SHARED_STORAGE_TIMEOUT_S = 30.0
"""Time for a new file to become visible on all nodes; network file systems may take several seconds."""

GROUP_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables that describe the process group. A child process outside the group must not inherit them."""


def import_base_once(config: FinetuneConfig, context: TrainContext) -> None:
    """Returns when the base is at nemo_base(config). Call it on every rank.

    If it is not there yet, rank 0 imports it and the other ranks wait. Raises TrainingError if the ranks do not share
    the run's storage, CheckpointError if the imported base is not what this platform wrote, and on rank 0 what
    import_checkpoint raises.
    """
    _check_storage_is_shared(config, context)
    target = nemo_base(config)
    if context.rank == 0 and not target.exists():
        try:
            _import_in_child_process(config.model.folder, target)
        except (CheckpointError, OSError):
            if not target.exists():  # otherwise another run has imported it in the meantime
                raise
    # No barrier: importing 120B takes longer than the timeout of a collective. If rank 0 fails, the group is ended.
    while not target.exists():
        time.sleep(POLL_INTERVAL_S)
    check_written_folder_together(target)


def _check_storage_is_shared(config: FinetuneConfig, context: TrainContext) -> None:
    """Raises TrainingError if this rank does not see rank 0's files: it would wait for the base forever."""
    if context.world_size == 1:
        return
    marker = checkpoint_folder(config) / ".written-by-rank-0"
    token = [uuid.uuid4().hex]
    if context.rank == 0:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text(token[0], encoding="utf-8")
    dist.broadcast_object_list(token, src=0)
    deadline = time.monotonic() + SHARED_STORAGE_TIMEOUT_S
    while not (marker.exists() and marker.read_text(encoding="utf-8") == token[0]):
        if time.monotonic() > deadline:
            raise TrainingError(
                f"run.storage: {config.run.folder} on node {socket.gethostname()} is not the folder that rank 0 writes "
                "to. NeMo's workers share the base and the checkpoints. Set run.storage to a folder that all nodes see."
            )
        time.sleep(POLL_INTERVAL_S)


def _import_in_child_process(base: Path, target: Path) -> None:
    """Runs import_checkpoint outside this process's group and Megatron state, and raises its errors here."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    from jobs.nemo.checkpoint_import import import_checkpoint

    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_unset_group_variables) as pool:
        pool.submit(import_checkpoint, f"hf://{base}", target).result()


def _unset_group_variables() -> None:
    for name in GROUP_VARIABLES:
        os.environ.pop(name, None)
