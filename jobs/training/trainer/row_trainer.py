"""RowTrainer: transformers.Trainer with our order of rows, router loss, loss of preference pairs and held-out loss."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from transformers.trainer_utils import EvalLoopOutput

from jobs.training.frozen.kept_outputs import KeptOutputs
from jobs.training.preference.dpo_loss import DpoLoss, count_pairs, pair_metrics
from jobs.training.row_order import EpochOrder
from jobs.training.trainer.router_loss import balance_loss_sum, recorded_router_logits
from tuneyard.training_data.token_table import IGNORED_LABEL


class RowTrainer(transformers.Trainer):
    """A Trainer that takes rows in the order of `order` and adds the router's balance loss times `router_coefficient`.

    The Trainer's own grouping by length gives each worker another order, and another one after a resume. Its held-out
    loss is a mean over batches, so it depends on their size; this one is the mean over labelled tokens.
    """

    order: EpochOrder
    router_coefficient: float = 0.0
    kept_outputs: KeptOutputs | None = None
    """If set, it computes the model's frozen layers, in training and on the held-out rows."""

    dpo: DpoLoss | None = None
    """If set, the rows are preference pairs, and this is their loss."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._pair_sums = torch.zeros(4, device=self.args.device)
        """DpoLoss.sums of this worker's batches since the last report."""

    def _get_train_sampler(self, _train_dataset: Any = None) -> EpochOrder:
        return self.order

    def prepare_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch of the collator as it goes into the model: on its device, with the outputs that are kept."""
        return self._prepare_inputs(batch)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        if self.dpo is None:
            return super()._get_num_items_in_batch(batch_samples, device)
        pairs = torch.stack([count_pairs(batch) for batch in batch_samples]).sum()
        return self.accelerator.reduce(pairs.to(device), "sum").clamp(min=1)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        batch: dict[str, Any] = super()._prepare_inputs(inputs)
        return batch if self.kept_outputs is None else self.kept_outputs.replace_tokens(batch)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        if self.dpo is not None:
            sums = self.dpo.sums(model, inputs)
            self._pair_sums += sums.detach()
            # As below: of the workers' losses the mean is taken.
            return sums[0] * self.accelerator.num_processes / num_items_in_batch
        segments = inputs.pop("segment_ids")
        if not self.router_coefficient:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        with recorded_router_logits(model) as layers:
            loss = super().compute_loss(model, inputs, False, num_items_in_batch)
        balance = balance_loss_sum(layers, segments, inputs["labels"], int(self.model.config.num_experts_per_tok))
        # As the Trainer's own loss: a sum over this worker's tokens, of which all workers' mean is taken.
        return loss + self.router_coefficient * self.accelerator.num_processes * balance / num_items_in_batch

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.dpo is not None and "loss" in logs:
            sums = self.accelerator.reduce(self._pair_sums, "sum")
            # The loss stays the Trainer's own.
            logs = pair_metrics(sums) | logs
            self._pair_sums = torch.zeros_like(self._pair_sums)
        super().log(logs, start_time)

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """The mean loss over all labelled tokens or pairs of the held-out rows, over all workers. Filler has none."""
        del description, prediction_loss_only, ignore_keys
        was_training = self.model.training
        self.model.eval()
        sums = torch.zeros(2 if self.dpo is None else 4, dtype=torch.float64, device=self.args.device)
        rows = 0
        with torch.no_grad():
            for batch in dataloader:
                inputs = self._prepare_inputs(batch)
                rows += len(inputs["labels"])
                # Of a batch without labels too: the workers of a sharded model compute each layer together.
                sums += (self._token_sums(inputs) if self.dpo is None else self.dpo.sums(self.model, inputs)).to(sums)
        self.model.train(was_training)
        sums = self.accelerator.reduce(sums, "sum")
        if self.dpo is not None:
            return EvalLoopOutput(None, None, pair_metrics(sums, f"{metric_key_prefix}_"), rows)
        total, count = sums.tolist()
        return EvalLoopOutput(None, None, {f"{metric_key_prefix}_loss": total / max(1.0, count)}, rows)

    def _token_sums(self, inputs: dict[str, Any]) -> torch.Tensor:
        """The loss summed over the labelled tokens of a batch, and their number."""
        del inputs["segment_ids"]
        labels = int((inputs["shift_labels"] != IGNORED_LABEL).sum())
        loss = float(self.model(**inputs).loss)
        return torch.tensor([loss * labels if labels else 0.0, labels], dtype=torch.float64)
