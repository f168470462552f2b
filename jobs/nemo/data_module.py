"""The token table as a NeMo data module; each step trains on the same rows as with the transformers backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import lightning.pytorch as pl
import torch
from nemo.lightning.data import WrappedDataLoader
from nemo.lightning.io.mixin import IOMixin
from nemo.lightning.pytorch.plugins import MegatronDataSampler

import jobs.nemo.setup.patched
from jobs.training.row_order import EpochOrder, row_lengths, with_filler
from tuneyard.training_data.token_store import open_token_rows
from tuneyard.training_data.token_table import IGNORED_LABEL


class TokenStoreDataModule(pl.LightningDataModule, IOMixin):
    """Token stores (tuneyard.training_data.token_store) as data for `llm.finetune`.

    `train` and `heldout` are folders of token stores. To NeMo, a run is one pass over max_steps × global_batch_size
    items: with n rows, item i is row i mod n in the order of epoch i div n. The position in the data is therefore the
    number of consumed samples, which NeMo's checkpoints contain. `grouped` puts rows of similar length into the same
    step. `pad_to` pads every batch to this many tokens, because pipeline stages exchange tensors of a fixed shape; None
    pads to the longest row of the batch.
    """

    def __init__(
        self,
        train: str,
        heldout: str | None,
        max_steps: int,
        seq_length: int,
        micro_batch_size: int,
        global_batch_size: int,
        seed: int,
        grouped: bool = False,
        pad_to: int | None = None,
        pad_token_id: int = 0,
        tokenizer: Any = None,
    ) -> None:
        super().__init__()
        self.train = train
        self.heldout = heldout
        self.seq_length = seq_length
        self.micro_batch_size = micro_batch_size
        self.global_batch_size = global_batch_size
        self.max_steps = max_steps
        self.seed = seed
        self.grouped = grouped
        self.pad_to = pad_to
        self.pad_token_id = pad_token_id
        self.tokenizer = tokenizer  # NeMo sets this to the model's tokenizer
        self.data_sampler: Any = None
        self.init_global_step = 0

    def setup(self, stage: str) -> None:  # noqa: ARG002  # Lightning passes it by name
        """Creates NeMo's sampler. Lightning calls this."""
        self.data_sampler = MegatronDataSampler(
            seq_len=self.seq_length,
            micro_batch_size=self.micro_batch_size,
            global_batch_size=self.global_batch_size,
            dataloader_type="single",
        )

    def train_dataloader(self) -> WrappedDataLoader:
        """All items of the run, in order. NeMo's sampler divides them among the ranks and skips consumed samples."""
        return self._loader(RunRows.open(self), "train")

    def val_dataloader(self) -> WrappedDataLoader | list[Any]:
        """The held-out rows, with filler rows up to whole steps; no loader if there are no held-out rows."""
        return self._loader(_RowDataset(self._heldout_rows()), "validation") if self.heldout is not None else []

    def heldout_labels(self) -> torch.Tensor:
        """Labelled tokens of each global batch of an evaluation, fp64 [batches]."""
        counts = [sum(label != IGNORED_LABEL for label in row["labels"][1:]) for row in self._heldout_rows()]
        return torch.tensor(counts, dtype=torch.float64).view(-1, self.global_batch_size).sum(dim=1)

    def _heldout_rows(self) -> datasets.Dataset:
        assert self.heldout is not None
        return with_filler(open_token_rows(Path(self.heldout)), self.global_batch_size)

    @property
    def micro_batches_per_step(self) -> int:
        """Micro batches that each data-parallel rank computes per step."""
        return int(self.data_sampler.num_microbatches)

    def state_dict(self) -> dict[str, Any]:
        """The number of consumed samples, for the checkpoint."""
        steps = self.trainer.global_step - self.init_global_step
        return {"consumed_samples": self.data_sampler.compute_consumed_samples(steps)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues after the samples that the checkpoint has consumed."""
        from megatron.core.num_microbatches_calculator import update_num_microbatches

        consumed = state_dict["consumed_samples"]
        self.data_sampler.init_consumed_samples = self.data_sampler.prev_consumed_samples = consumed
        update_num_microbatches(consumed_samples=consumed, consistency_check=False)
        self.data_sampler.if_first_step = 1

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Megatron's batch: tokens, labels, loss_mask and position_ids, each [rows, length], padded on the right.

        `labels` are shifted by one: at each position, the token that follows. There is no attention mask, because
        attention is causal: no real token attends to the padding on its right.
        """
        length = self.pad_to or max(len(row["input_ids"]) for row in rows)

        def padded(values: list[int], filler: int) -> list[int]:
            return [*values, *[filler] * (length - len(values))]

        tokens = torch.tensor([padded(row["input_ids"], self.pad_token_id) for row in rows])
        targets = torch.tensor([padded(row["labels"][1:], IGNORED_LABEL) for row in rows])
        return {
            "tokens": tokens,
            "labels": targets.clamp_min(0),
            "loss_mask": (targets != IGNORED_LABEL).float(),
            "position_ids": torch.arange(length).expand(len(rows), -1).contiguous(),
        }

    def _loader(self, rows: torch.utils.data.Dataset[dict[str, Any]], mode: str) -> WrappedDataLoader:
        self.init_global_step = self.data_sampler.init_global_step = self.trainer.global_step
        return WrappedDataLoader(mode=mode, dataset=rows, num_workers=0, collate_fn=self.collate)


class _RowDataset(torch.utils.data.Dataset[dict[str, Any]]):
    def __init__(self, rows: datasets.Dataset) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, item: int) -> dict[str, Any]:
        row: dict[str, Any] = self._rows[item]
        return row


class RunRows(torch.utils.data.Dataset[dict[str, Any]]):
    """The rows of all epochs of a run as one sequence of `length` items."""

    def __init__(self, rows: datasets.Dataset, order: EpochOrder, length: int) -> None:
        self._rows = rows
        self._order = order
        self._length = length
        self._epoch = -1
        self._epoch_rows: list[int] = []

    @classmethod
    def open(cls, data: TokenStoreDataModule) -> RunRows:
        """The run of a data module."""
        step_rows = data.global_batch_size
        rows = with_filler(open_token_rows(Path(data.train)), step_rows)
        order = EpochOrder(rows, data.seed, step_rows, row_lengths(rows) if data.grouped else None)
        return cls(rows, order, data.max_steps * step_rows)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, item: int) -> dict[str, Any]:
        row: dict[str, Any] = self._rows[self.row_index(item)]
        return row

    @property
    def rows_per_epoch(self) -> int:
        """Rows per epoch, filler rows included."""
        return len(self._rows)

    def row_index(self, item: int) -> int:
        """Index in the token store of the row that is item `item` of the run."""
        epoch, position = divmod(item, len(self._rows))
        if epoch != self._epoch:
            self._order.set_epoch(epoch)
            self._epoch_rows, self._epoch = list(self._order), epoch
        return self._epoch_rows[position]

    def tokens_of_step(self, step: int, step_rows: int) -> int:
        """Tokens in the rows of a step, without padding. The first step is 0."""
        return sum(len(self[item]["input_ids"]) for item in range(step * step_rows, (step + 1) * step_rows))
