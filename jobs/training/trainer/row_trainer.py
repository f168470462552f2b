"""RowTrainer: transformers.Trainer with our order of rows, router loss and held-out loss."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from transformers.trainer_utils import EvalLoopOutput

from jobs.training.frozen.kept_outputs import KeptOutputs
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

    def _get_train_sampler(self, _train_dataset: Any = None) -> EpochOrder:
        return self.order

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
        segments = inputs.pop("segment_ids")
        if not self.router_coefficient:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        with recorded_router_logits(model) as layers:
            loss = super().compute_loss(model, inputs, False, num_items_in_batch)
        balance = balance_loss_sum(layers, segments, inputs["labels"], int(self.model.config.num_experts_per_tok))
        # As the Trainer's own loss: a sum over this worker's tokens, of which all workers' mean is taken.
        return loss + self.router_coefficient * self.accelerator.num_processes * balance / num_items_in_batch

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """The mean loss over all labelled tokens of the held-out rows, over all workers. Filler rows have none."""
        del description, prediction_loss_only, ignore_keys
        was_training = self.model.training
        self.model.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        rows = 0
        with torch.no_grad():
            for batch in dataloader:
                inputs = self._prepare_inputs(batch)
                del inputs["segment_ids"]
                labels = int((inputs["shift_labels"] != IGNORED_LABEL).sum())
                rows += len(inputs["labels"])
                # Of a batch without labels too: the workers of a sharded model compute each layer together.
                loss = float(self.model(**inputs).loss)
                if labels:
                    sums += torch.tensor([loss * labels, labels]).to(sums)
        self.model.train(was_training)
        total, count = self.accelerator.reduce(sums, "sum").tolist()
        return EvalLoopOutput(None, None, {f"{metric_key_prefix}_loss": total / max(1.0, count)}, rows)
