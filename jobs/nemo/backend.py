"""The NeMo TrainingBackend: trains with NeMo's GPT-OSS recipes on Megatron-Core, in an existing process group.

NeMo writes its checkpoints to the run's storage and they stay there; Ray Train gets a pointer file with their path.
"""

from __future__ import annotations

from pathlib import Path

import fiddle
import lightning.pytorch as pl
import numpy as np
from nemo import lightning as nl

import jobs.nemo.setup.patched
from jobs.nemo.base_import import import_base_once
from jobs.nemo.callbacks import CheckpointReporter, MetricsReporter, ResumedStepCounts
from jobs.nemo.checkpoint_folders import checkpoint_folder, nemo_base, read_pointer
from jobs.nemo.process_group import local_world_size, use_existing_process_group
from jobs.nemo.recipe import build_recipe
from jobs.nemo.setup.shared_check import check_written_folder_together
from jobs.training.backend import TokenFiles, TrainContext
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import TrainingError

MEGATRON_NAN_MESSAGE = "Unexpected result"
"""Start of Megatron's error message for gradients that are not finite (megatron/core/rerun_state_machine.py)."""


class NemoBackend:
    """See TrainingBackend."""

    def train(self, config: FinetuneConfig, tokens: TokenFiles, context: TrainContext) -> None:
        import_base_once(config, context)
        recipe = build_recipe(config, tokens)
        # Ray Train may place the workers differently from `gpus_per_node`; the actual placement counts.
        recipe.trainer.devices = local_world_size()
        recipe.trainer.num_nodes = context.world_size // recipe.trainer.devices
        recipe.log.log_dir = str(context.work_dir)
        finetune = fiddle.build(recipe)
        arguments = finetune.keywords
        trainer: pl.Trainer = arguments["trainer"]
        use_existing_process_group(trainer.strategy)
        metrics = MetricsReporter(context, arguments["data"])
        # First in the list: CheckpointReporter reports the metrics of the same step.
        trainer.callbacks[:0] = [metrics, ResumedStepCounts()]
        arguments["log"].ckpt = CheckpointReporter(
            context,
            metrics,
            checkpoint_folder(config),
            every_steps=recipe.log.ckpt.every_n_train_steps,
            keep=config.run.kept_checkpoints + 1,
        )
        if context.resume_from is not None:
            resumed = read_pointer(context.resume_from)
            check_written_folder_together(resumed)
            arguments["resume"] = nl.AutoResume(resume_from_path=str(resumed))
        try:
            finetune()
        except RuntimeError as e:
            if MEGATRON_NAN_MESSAGE not in str(e):
                raise
            training = config.training
            raise TrainingError(
                f"The gradients are not finite. Lower training.learning_rate (now {training.learning_rate:g}) or "
                f"training.max_grad_norm (now {training.max_grad_norm:g}). Megatron's error: {e}"
            ) from e

    def export_hf(
        self, config: FinetuneConfig, checkpoint: Path, target: Path, probe_rows: list[dict[str, list[int]]]
    ) -> list[np.ndarray]:
        from jobs.nemo.export import export_hf

        return export_hf(config, read_pointer(checkpoint), nemo_base(config), target, probe_rows)

    def export_adapter(
        self, config: FinetuneConfig, checkpoint: Path, target: Path, probe_rows: list[dict[str, list[int]]]
    ) -> list[np.ndarray]:
        from jobs.nemo.export import export_adapter

        return export_adapter(read_pointer(checkpoint), nemo_base(config), target, probe_rows)
