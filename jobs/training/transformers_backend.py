"""The embedded TrainingBackend: transformers.Trainer, with PEFT for LoRA, on CPUs or GPUs."""

from __future__ import annotations

import math
import time
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
from jobs.training.model_loading import load_dequantised, unquantised_config
from jobs.training.row_order import EpochOrder, row_lengths, steps_of_run, with_filler
from tuneyard.checkpoints.layout.portable import make_checkpoint_portable
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import TrainingError
from tuneyard.training_data.token_store import open_token_rows

ATTENTION_MODULES = ["q_proj", "k_proj", "v_proj", "o_proj"]
EXPERT_PARAMETERS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]


class TransformersBackend:
    """See TrainingBackend."""

    def train(self, config: FinetuneConfig, tokens: TokenFiles, context: TrainContext) -> None:
        workers = config.workers
        if not workers.use_gpu and workers.threads_per_worker is not None:
            torch.set_num_threads(workers.threads_per_worker)
        transformers.set_seed(config.training.seed)
        model = load_trainable_model(config)
        training = config.training
        # The same rows a step, however many workers there are now.
        accumulation = (
            config.accumulation_at(context.world_size)
            if config.workers.min_workers is not None
            else training.gradient_accumulation_steps
        )
        step_rows = training.batch_size_per_worker * accumulation * context.world_size
        train_rows = with_filler(open_token_rows(tokens.train), step_rows)
        steps = steps_of_run(len(train_rows), step_rows, training.epochs, training.max_steps)
        lengths = row_lengths(train_rows) if config.data.batching == "grouped" else None
        callbacks: list[transformers.TrainerCallback] = [_ReportingCallback(context)]
        if training.early_stopping_patience is not None:
            callbacks.append(transformers.EarlyStoppingCallback(training.early_stopping_patience))
        trainer = _OrderedTrainer(
            model=model,
            args=_training_arguments(config, context, steps.total, accumulation, with_eval=tokens.heldout is not None),
            train_dataset=train_rows,
            eval_dataset=open_token_rows(tokens.heldout) if tokens.heldout else None,
            data_collator=create_collator(model),
            callbacks=callbacks,
        )
        trainer.order = EpochOrder(train_rows, training.seed, step_rows, lengths)
        trainer.add_callback(_EpochCallback(trainer.order, steps.per_epoch))
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train(resume_from_checkpoint=str(context.resume_from) if context.resume_from else None)

    def export_hf(
        self, config: FinetuneConfig, checkpoint: Path, target: Path, probe_rows: list[dict[str, list[int]]]
    ) -> list[np.ndarray]:
        base_config = unquantised_config(config.model.folder)
        if config.training.method == "lora":
            base = _load_pretrained(config.model.folder, config, torch.float32)
            model = peft.PeftModel.from_pretrained(base, checkpoint).eval()
            trained = label_logits(model, probe_rows)
            # Merging in bf16 moved logits by up to 2.5; in fp32 by 1e-6.
            model = model.merge_and_unload(safe_merge=True)
            check_merge(trained, label_logits(model, probe_rows))
        else:
            model = _load_pretrained(checkpoint, config, torch.float32).eval()
            trained = label_logits(model, probe_rows)
        model.config = base_config
        model.to(base_config.dtype or torch.float32).save_pretrained(target, max_shard_size="5GB")
        transformers.AutoTokenizer.from_pretrained(config.model.folder).save_pretrained(target)
        make_checkpoint_portable(target)
        return trained


class _OrderedTrainer(transformers.Trainer):
    """The Trainer, with our order of rows: its own grouped one differs between workers and after a resume."""

    order: EpochOrder

    def _get_train_sampler(self, _train_dataset: Any = None) -> EpochOrder:
        return self.order


class _EpochCallback(transformers.TrainerCallback):
    """Tells the order its epoch. Of the epoch in which a run is resumed the Trainer does not."""

    def __init__(self, order: EpochOrder, steps_per_epoch: int) -> None:
        self._order = order
        self._steps_per_epoch = steps_per_epoch

    def on_epoch_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        self._order.set_epoch(state.global_step // self._steps_per_epoch)


def load_trainable_model(config: FinetuneConfig) -> Any:
    """The base in fp32 (bf16 with a GPU and `precision: bf16`), with fresh adapters when training LoRA."""
    in_bf16 = config.workers.use_gpu and torch.cuda.is_available() and config.training.precision == "bf16"
    model = _load_pretrained(config.model.folder, config, torch.bfloat16 if in_bf16 else torch.float32)
    aux = config.training.router_aux_loss_coef
    model.config.output_router_logits = aux > 0
    model.router_aux_loss_coef = aux
    if config.training.method == "full":
        return model
    lora = config.training.lora
    return peft.get_peft_model(
        model,
        peft.LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=ATTENTION_MODULES,
            target_parameters=EXPERT_PARAMETERS if lora.experts else None,
            **_adapted_layers(model.config.num_hidden_layers, lora.last_layers),
            task_type="CAUSAL_LM",
        ),
    )


def _adapted_layers(layers: int, last: int | None) -> dict[str, Any]:
    """PEFT's fields for adapters on the last layers only."""
    if last is None or last >= layers:
        return {}
    return {"layers_to_transform": list(range(layers - last, layers)), "layers_pattern": "layers"}


def _load_pretrained(folder: Path, config: FinetuneConfig, dtype: torch.dtype) -> Any:
    on_gpu = config.workers.use_gpu and torch.cuda.is_available()
    return load_dequantised(folder, dtype, on_gpu=on_gpu, experts=config.model.experts_implementation)


def _training_arguments(
    config: FinetuneConfig, context: TrainContext, total_steps: int, accumulation: int, *, with_eval: bool
) -> transformers.TrainingArguments:
    training = config.training
    save = training.checkpoint_every_steps
    evaluate = training.eval_every_steps
    early = training.early_stopping_patience is not None
    return transformers.TrainingArguments(
        output_dir=str(context.work_dir),
        num_train_epochs=training.epochs,
        max_steps=training.max_steps or -1,
        learning_rate=training.learning_rate,
        lr_scheduler_type=training.schedule,
        warmup_steps=math.ceil(total_steps * training.warmup_ratio),
        weight_decay=training.weight_decay,
        adam_beta2=training.adam_beta2,
        max_grad_norm=training.max_grad_norm,
        per_device_train_batch_size=training.batch_size_per_worker,
        per_device_eval_batch_size=2 * training.batch_size_per_worker,
        gradient_accumulation_steps=accumulation,
        bf16=training.precision == "bf16",
        seed=training.seed,
        use_cpu=not config.workers.use_gpu,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="no" if not with_eval else ("steps" if evaluate else "epoch"),
        eval_steps=evaluate,
        save_strategy="steps" if save else "epoch",
        save_steps=save or 500,
        save_total_limit=1,
        metric_for_best_model="eval_loss" if early else None,
        greater_is_better=False if early else None,
        prediction_loss_only=True,
        # A packed batch's masks cannot be counted so, and its padding is next to nothing.
        include_num_input_tokens_seen="all" if config.data.batching == "packed" else "non_padding",
        remove_unused_columns=False,
        dataloader_pin_memory=config.workers.use_gpu,
        ddp_find_unused_parameters=False,
        disable_tqdm=True,
        report_to=[],
        label_names=["labels"],
    )


class _ReportingCallback(transformers.TrainerCallback):
    """Hands the Trainer's logs and checkpoints to the context."""

    def __init__(self, context: TrainContext) -> None:
        self._context = context
        self._last: dict[str, float] = {}
        self._tokens_seen = 0
        self._since = time.monotonic()

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        self._since = time.monotonic()
        self._tokens_seen = int(state.num_input_tokens_seen)

    def on_log(self, args: Any, state: Any, _control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        known = ("loss", "grad_norm", "learning_rate", "eval_loss")
        metrics = {name: float(value) for name, value in (logs or {}).items() if name in known}
        if not metrics:
            return
        if not math.isfinite(metrics.get("loss", 0.0)):
            raise TrainingError(
                f"The loss is {metrics['loss']} at step {state.global_step}. Lower training.learning_rate "
                f"(now {args.learning_rate:g}) or training.max_grad_norm (now {args.max_grad_norm:g})."
            )
        now = time.monotonic()
        if "loss" in metrics and now > self._since:
            seen = int(state.num_input_tokens_seen)
            metrics["tokens_per_s"] = (seen - self._tokens_seen) / (now - self._since)
            self._tokens_seen, self._since = seen, now
        metrics |= {"step": state.global_step, "total_steps": state.max_steps, "epoch": float(state.epoch or 0)}
        self._last |= metrics
        if self._context.rank == 0:
            self._context.report_metrics(metrics)

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        # Time spent evaluating is not training time.
        self._since = time.monotonic()

    def on_save(self, args: Any, state: Any, _control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        self._context.report_checkpoint(dict(self._last), folder)
        self._since = time.monotonic()
