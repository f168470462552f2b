"""The transformers TrainingBackend: transformers.Trainer, with PEFT for LoRA, on CPUs or GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
import transformers

from jobs.training.backend import TokenFiles, TrainContext
from jobs.training.collator import create_collator
from jobs.training.label_logits import label_logits
from jobs.training.logit_proof import check_merge
from jobs.training.model_loading import unquantised_config
from jobs.training.row_order import EpochOrder, row_lengths, steps_of_run, with_filler
from jobs.training.trainable_model import load_for_run, load_trainable_model
from jobs.training.trainer_callbacks import EpochCallback, ReportingCallback
from jobs.training.training_arguments import training_arguments
from tuneyard.checkpoints.layout.portable import make_checkpoint_portable
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.training_data.token_store import open_token_rows


class TransformersBackend:
    """See TrainingBackend."""

    def train(self, config: FinetuneConfig, tokens: TokenFiles, context: TrainContext) -> None:
        workers, training = config.workers, config.training
        if not workers.use_gpu and workers.threads_per_worker is not None:
            torch.set_num_threads(workers.threads_per_worker)
        transformers.set_seed(training.seed)
        model = load_trainable_model(config)
        accumulation_steps = _accumulation_steps(config, context.world_size)
        step_rows = training.batch_size_per_worker * accumulation_steps * context.world_size
        train_rows = with_filler(open_token_rows(tokens.train), step_rows)
        steps = steps_of_run(len(train_rows), step_rows, training.epochs, training.max_steps)
        lengths = row_lengths(train_rows) if config.data.batching == "grouped" else None
        order = EpochOrder(train_rows, training.seed, step_rows, lengths)
        callbacks: list[transformers.TrainerCallback] = [ReportingCallback(context)]
        if training.early_stopping_patience is not None:
            callbacks.append(transformers.EarlyStoppingCallback(training.early_stopping_patience))
        callbacks.append(EpochCallback(order, steps.per_epoch))
        trainer = _OrderedTrainer(
            model=model,
            args=training_arguments(
                config, context.work_dir, steps.total, accumulation_steps, has_heldout=tokens.heldout is not None
            ),
            train_dataset=train_rows,
            eval_dataset=open_token_rows(tokens.heldout) if tokens.heldout else None,
            data_collator=create_collator(model),
            callbacks=callbacks,
        )
        trainer.order = order
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train(resume_from_checkpoint=str(context.resume_from) if context.resume_from else None)

    def export_hf(
        self, config: FinetuneConfig, checkpoint: Path, target: Path, probe_rows: list[dict[str, list[int]]]
    ) -> list[np.ndarray]:
        base_config = unquantised_config(config.model.folder)
        if config.training.method == "lora":
            base = load_for_run(config.model.folder, config, torch.float32)
            model = peft.PeftModel.from_pretrained(base, checkpoint).eval()
            trained = label_logits(model, probe_rows)
            # Merging in bf16 changed logits by up to 2.5, merging in fp32 by 1e-6.
            model = model.merge_and_unload(safe_merge=True)
            check_merge(trained, label_logits(model, probe_rows))
        else:
            model = load_for_run(checkpoint, config, torch.float32).eval()
            trained = label_logits(model, probe_rows)
        model.config = base_config
        model.to(base_config.dtype or torch.float32).save_pretrained(target, max_shard_size="5GB")
        transformers.AutoTokenizer.from_pretrained(config.model.folder).save_pretrained(target)
        make_checkpoint_portable(target)
        return trained


class _OrderedTrainer(transformers.Trainer):
    """A Trainer that takes rows in the order of `order`.

    The Trainer's own grouping by length gives each worker another order, and another one after a resume.
    """

    order: EpochOrder

    def _get_train_sampler(self, _train_dataset: Any = None) -> EpochOrder:
        return self.order


def _accumulation_steps(config: FinetuneConfig, world_size: int) -> int:
    """Micro-batches per optimizer step. A step of an elastic run takes the same rows with any number of workers."""
    if config.workers.min_workers is None:
        return config.training.gradient_accumulation_steps
    return config.accumulation_at(world_size)
