"""The transformers TrainingBackend: transformers.Trainer, with PEFT for LoRA, on CPUs or GPUs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
import transformers

from jobs.training.backend import TokenFiles, TrainContext
from jobs.training.collator import create_collator
from jobs.training.export.adapter_files import copy_adapter
from jobs.training.export.hf_files import save_like_base
from jobs.training.export.trained_model import load_trained_model
from jobs.training.frozen.kept_outputs import detach_frozen_layers, keep_outputs
from jobs.training.label_logits import label_logits
from jobs.training.logit_proof import check_merge
from jobs.training.preference.dpo_loss import DpoLoss
from jobs.training.preference.pair_collator import PairCollator, half_lengths
from jobs.training.preference.reference import ReferenceCallback
from jobs.training.row_order import EpochOrder, row_lengths, steps_of_run, with_filler
from jobs.training.sharding.sharded_model import load_sharded_model
from jobs.training.trainable_model import load_for_run, load_trainable_model
from jobs.training.trainer.row_trainer import RowTrainer
from jobs.training.trainer.sharded_trainer import ShardedTrainer
from jobs.training.trainer_callbacks import EpochCallback, ReportingCallback, SaveEvaluatedModels
from jobs.training.training_arguments import check_device, training_arguments
from tuneyard.arithmetic.cpu_products import use_fast_products
from tuneyard.checkpoints.layout.adapter import is_adapter
from tuneyard.checkpoints.safety.checkpoint_safety import check_trained_safety
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import CheckpointError, TrainingError
from tuneyard.training_data.token_store import open_token_rows


class TransformersBackend:
    """See TrainingBackend. `load_model` returns the model to train; tests give one that no folder holds."""

    def __init__(self, load_model: Callable[[FinetuneConfig], Any] = load_trainable_model) -> None:
        self._load_model = load_model

    def train(self, config: FinetuneConfig, tokens: TokenFiles, context: TrainContext) -> None:
        workers, training = config.workers, config.training
        if not workers.use_gpu and workers.threads_per_worker is not None:
            torch.set_num_threads(workers.threads_per_worker)
        if not workers.use_gpu:
            use_fast_products()
        check_device(config, has_gpu=torch.cuda.is_available(), has_bf16=torch.cuda.is_bf16_supported())
        accumulation_steps = _accumulation_steps(config, context.world_size)
        step_rows = training.batch_size_per_worker * accumulation_steps * context.world_size
        stored = {"train": open_token_rows(tokens.train)}
        if tokens.heldout is not None:
            stored["heldout"] = open_token_rows(tokens.heldout)
        # Before the other callbacks, of which one reports a checkpoint as soon as it is written.
        reference = ReferenceCallback({name: len(rows) for name, rows in stored.items()})
        train_rows = with_filler(stored["train"], step_rows)
        steps = steps_of_run(len(train_rows), step_rows, training.epochs, training.max_steps)
        lengths = row_lengths(train_rows) if config.data.batching == "grouped" else None
        order = EpochOrder(train_rows, training.seed, step_rows, lengths)
        is_dpo = training.objective == "dpo"
        callbacks: list[transformers.TrainerCallback] = [*([reference] if is_dpo else []), ReportingCallback(context)]
        if training.early_stopping_patience is not None:
            callbacks += [transformers.EarlyStoppingCallback(training.early_stopping_patience), SaveEvaluatedModels()]
        callbacks.append(EpochCallback(order, steps.per_epoch))
        arguments = training_arguments(
            config, context.work_dir, steps.total, accumulation_steps, has_heldout="heldout" in stored
        )
        transformers.set_seed(training.seed)
        is_sharded = training.sharding == "fsdp2"
        load = self._load_model
        model = load_sharded_model(config, load, arguments.device) if is_sharded else load(config)
        # Filler rows, because with unequal batches per worker the data loader would repeat held-out rows.
        eval_rows = arguments.per_device_eval_batch_size * context.world_size
        heldout_rows = with_filler(stored["heldout"], eval_rows) if "heldout" in stored else None
        # Pairs pass the model once more, for the reference.
        frozen = detach_frozen_layers(config, model, has_later_epochs=is_dpo or steps.total > steps.per_epoch)
        kept_outputs = None
        if frozen is not None:
            kept_outputs, train_rows, heldout_rows = keep_outputs(
                frozen, train_rows, heldout_rows, context.work_dir, half_lengths if is_dpo else row_lengths
            )
        collator = create_collator(model)
        trainer = (ShardedTrainer if is_sharded else RowTrainer)(
            model=model,
            args=arguments,
            train_dataset=train_rows,
            eval_dataset=heldout_rows,
            data_collator=PairCollator(collator) if is_dpo else collator,
            callbacks=callbacks,
        )
        trainer.order = order
        trainer.router_coefficient = training.router_aux_loss_coef
        trainer.kept_outputs = kept_outputs
        trainer.remove_callback(transformers.PrinterCallback)
        try:
            if is_dpo:
                trainer.dpo = DpoLoss(training.dpo.beta)
                reference.add_to(trainer, context.resume_from)
            trainer.train(resume_from_checkpoint=str(context.resume_from) if context.resume_from else None)
        except torch.OutOfMemoryError as e:
            raise TrainingError(
                f"The GPU's memory is full: {str(e).splitlines()[0]} Lower training.batch_size_per_worker (now "
                f"{training.batch_size_per_worker}) or data.max_length, set training.gradient_checkpointing to true, "
                "training.sharding to fsdp2 with several workers, or use GPUs with more memory."
            ) from e
        finally:
            if kept_outputs is not None:
                kept_outputs.close()

    def export_hf(
        self, config: FinetuneConfig, checkpoint: Path, target: Path, probe_rows: list[dict[str, list[int]]]
    ) -> list[np.ndarray]:
        model = _load_trained(config, checkpoint)
        trained = label_logits(model, probe_rows)
        if config.training.method == "lora":
            # Merging in bf16 changed logits by up to 2.5, merging in fp32 by 1e-6.
            model = model.merge_and_unload(safe_merge=True)
            check_merge(trained, label_logits(model, probe_rows))
        save_like_base(model, config.model.folder, target)
        return trained

    def export_adapter(
        self, config: FinetuneConfig, checkpoint: Path, target: Path, probe_rows: list[dict[str, list[int]]]
    ) -> list[np.ndarray]:
        model = _load_trained(config, checkpoint)
        copy_adapter(checkpoint, target)
        return label_logits(model, probe_rows)


def _load_trained(config: FinetuneConfig, checkpoint: Path) -> Any:
    """The model of a checkpoint, in fp32; with LoRA, the base with its adapters.

    Raises CheckpointError if the checkpoint is not safe to load, or is not one of `training.method`.
    """
    check_trained_safety(checkpoint)
    method = config.training.method
    if is_adapter(checkpoint) != (method == "lora"):
        holds = "adapters" if is_adapter(checkpoint) else "no adapters"
        raise CheckpointError(
            f"{checkpoint} holds {holds}, but training.method is {method}. Give the config of the run that wrote it."
        )
    if method == "full":
        return load_trained_model(config, checkpoint)
    base = load_for_run(config.model.folder, config, torch.float32)
    return peft.PeftModel.from_pretrained(base, checkpoint).eval()


def _accumulation_steps(config: FinetuneConfig, world_size: int) -> int:
    """Micro-batches per optimizer step. A step of an elastic run takes the same rows with any number of workers."""
    if config.workers.min_workers is None:
        return config.training.gradient_accumulation_steps
    return config.accumulation_at(world_size)
