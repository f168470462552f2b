"""The NeMo TrainingBackend: NeMo's GPT-OSS recipes on Megatron-Core, inside a process group that already exists.

Its checkpoints stay where NeMo writes them, on the run's storage; what it reports to the context is a pointer.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from pathlib import Path

from jobs.nemo.recipe import build_recipe  # before nemo: applies the fixes

# isort: split
import fiddle
import lightning.pytorch as pl
import numpy as np
import torch.distributed as dist
from nemo import lightning as nl

from jobs.nemo.callbacks import POINTER, CheckpointReporter, MetricsReporter, ResumeInPlace
from jobs.nemo.folders import checkpoint_folder, nemo_base
from jobs.nemo.process_group import GROUP_VARIABLES, keep_process_group, local_world_size
from jobs.training.backend import TokenFiles, TrainContext
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import CheckpointError, TrainingError

BASE_POLL_S = 1.0
MEGATRON_FOUND_NAN = "Unexpected result"
"""How megatron/core/rerun_state_machine.py begins what it says of gradients that are not finite."""

SHARED_STORAGE_WAIT_S = 30.0
"""Network file systems show a new file some seconds late."""


class NemoBackend:
    """See TrainingBackend."""

    def train(self, config: FinetuneConfig, tokens: TokenFiles, context: TrainContext) -> None:
        _check_storage_is_shared(config, context)
        _import_base_once(config, context)
        recipe = build_recipe(config, tokens)
        # Ray Train may spread the workers other than `gpus_per_node` says; they are what there is.
        recipe.trainer.devices = local_world_size()
        recipe.trainer.num_nodes = context.world_size // recipe.trainer.devices
        recipe.log.log_dir = str(context.work_dir)
        finetune = fiddle.build(recipe)
        parts = finetune.keywords
        trainer: pl.Trainer = parts["trainer"]
        keep_process_group(trainer.strategy)
        metrics = MetricsReporter(context, parts["data"])
        trainer.callbacks[:0] = [metrics, ResumeInPlace()]  # before the checkpoint, which takes the metrics along
        parts["log"].ckpt = CheckpointReporter(
            context, metrics, checkpoint_folder(config), every=recipe.log.ckpt.every_n_train_steps
        )
        if context.resume_from is not None:
            parts["resume"] = nl.AutoResume(resume_from_path=str(read_pointer(context.resume_from)))
        try:
            finetune()
        except RuntimeError as e:
            if MEGATRON_FOUND_NAN not in str(e):
                raise
            training = config.training
            raise TrainingError(
                f"The gradients are not finite. Lower training.learning_rate (now {training.learning_rate:g}) or "
                f"training.max_grad_norm (now {training.max_grad_norm:g}). Megatron says: {e}"
            ) from e

    def export_hf(
        self, config: FinetuneConfig, checkpoint: Path, target: Path, probe_rows: list[dict[str, list[int]]]
    ) -> list[np.ndarray]:
        from jobs.nemo.export import export_hf

        return export_hf(config, read_pointer(checkpoint), nemo_base(config), target, probe_rows)


def read_pointer(folder: Path) -> Path:
    """The NeMo checkpoint that a reported folder points to."""
    found: dict[str, str] = json.loads((folder / POINTER).read_text(encoding="utf-8"))
    return Path(found["path"])


def _check_storage_is_shared(config: FinetuneConfig, context: TrainContext) -> None:
    """Raises TrainingError when a worker does not see what rank 0 writes: it would wait for the base for ever."""
    if context.world_size == 1:
        return
    marker = checkpoint_folder(config) / ".written-by-rank-0"
    token = [uuid.uuid4().hex]
    if context.rank == 0:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text(token[0], encoding="utf-8")
    dist.broadcast_object_list(token, src=0)
    deadline = time.monotonic() + SHARED_STORAGE_WAIT_S
    while not (marker.exists() and marker.read_text(encoding="utf-8") == token[0]):
        if time.monotonic() > deadline:
            raise TrainingError(
                f"run.storage: {config.run.folder} on {socket.gethostname()} is not the folder that rank 0 writes to. "
                "NeMo's workers share base and checkpoints: set it to a folder that all nodes see."
            )
        time.sleep(BASE_POLL_S)


def _import_base_once(config: FinetuneConfig, context: TrainContext) -> None:
    """Leaves the base in NeMo 2 format at nemo_base(config). Rank 0 imports, in a process outside the group."""
    target = nemo_base(config)
    if context.rank == 0 and not target.exists():
        try:
            import_in_its_own_process(config.model.folder, target)
        except (CheckpointError, OSError):
            if not target.exists():  # another run has imported it meanwhile
                raise
    # No barrier: an import of 120B takes longer than a collective may. When rank 0 fails, the group is torn down.
    while not target.exists():
        time.sleep(BASE_POLL_S)


def import_in_its_own_process(base: Path, target: Path) -> None:
    """import_checkpoint, away from this process's group and Megatron state; its errors are raised here."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    from jobs.nemo.importing import import_checkpoint

    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_leave_the_group) as pool:
        pool.submit(import_checkpoint, f"hf://{base}", target).result()


def _leave_the_group() -> None:
    for name in GROUP_VARIABLES:
        os.environ.pop(name, None)
