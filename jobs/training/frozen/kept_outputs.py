"""KeptOutputs: replaces the tokens of a batch by the outputs of the model's frozen layers, computed once per row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import torch

from jobs.training.collator import ROW_ID
from jobs.training.frozen.frozen_layers import FrozenLayers
from jobs.training.frozen.output_store import OutputStore, open_shared_store
from jobs.training.row_order import row_lengths
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import ConfigError


class KeptOutputs:
    """Gives the model the outputs of its frozen layers in place of tokens.

    The outputs of a row are computed from this row alone, without padding. So they do not depend on the batch, on the
    number of workers, or on whether they were kept: the losses of a run are bitwise the same with any store, also with
    one that keeps nothing, and after a resume.
    """

    def __init__(self, layers: FrozenLayers, store: OutputStore) -> None:
        self._layers = layers
        self._store = store

    def close(self) -> None:
        """Closes the store."""
        self._store.close()

    def replace_tokens(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch of the collator with `inputs_embeds` [rows, longest, width] in place of `input_ids` and row_id.

        The outputs of padding are 0. No token attends to it, and it has no label.
        """
        batch = dict(batch)
        tokens, row_ids = batch.pop("input_ids"), batch.pop(ROW_ID).tolist()
        outputs = torch.zeros(*tokens.shape, self._layers.width)
        for index, row_id in enumerate(row_ids):
            length = int((batch["segment_ids"][index] >= 0).sum())
            found = self._store.read(row_id)
            if found is None:
                found = self._layers.outputs(
                    tokens[index : index + 1, :length],
                    batch["position_ids"][index : index + 1, :length],
                    _mask_of_row(batch["attention_mask"], index, length),
                )[0]
                self._store.write(row_id, found)
            outputs[index, :length] = found
        batch["inputs_embeds"] = outputs
        return batch


def detach_frozen_layers(config: FinetuneConfig, model: Any, *, has_later_epochs: bool) -> FrozenLayers | None:
    """The frozen layers, taken out of `model`, if the run is to keep their outputs; else None.

    Raises ConfigError if `training.keep_frozen_outputs` is true and the model has no such layers.
    """
    wanted = config.training.keep_frozen_outputs
    if wanted is False or config.obstacles_to_kept_outputs or not (wanted or has_later_epochs):
        return None
    layers = FrozenLayers.detach(model)
    if layers is None and wanted:
        raise ConfigError(
            f"training.keep_frozen_outputs is true, but no layer is below training.lora.last_layers="
            f"{config.training.lora.last_layers}, or the base has dropout. Lower last_layers, or leave the field out."
        )
    return layers


def keep_outputs(
    layers: FrozenLayers,
    train_rows: datasets.Dataset,
    heldout_rows: datasets.Dataset | None,
    folder: Path,
    lengths_of: Callable[[datasets.Dataset], list[int]] = row_lengths,
) -> tuple[KeptOutputs, datasets.Dataset, datasets.Dataset | None]:
    """The KeptOutputs of a run, and its rows with their numbers.

    Every worker must call it, each with a `folder` of its own that exists while the workers run. `lengths_of` gives the
    tokens of the rows of batches, in the order of their row ids; pairs have two each.
    """
    heldout_lengths = lengths_of(heldout_rows) if heldout_rows is not None else []
    store = open_shared_store(folder, lengths_of(train_rows) + heldout_lengths, layers.width)
    numbered = _numbered(heldout_rows, len(train_rows)) if heldout_rows is not None else None
    return KeptOutputs(layers, store), _numbered(train_rows, 0), numbered


def _numbered(rows: datasets.Dataset, first: int) -> datasets.Dataset:
    return rows.add_column(ROW_ID, list(range(first, first + len(rows))))


def _mask_of_row(mask: torch.Tensor | dict[str, torch.Tensor], index: int, length: int) -> Any:
    if isinstance(mask, dict):
        return {name: masks[index : index + 1, :, :length, :length] for name, masks in mask.items()}
    return mask[index : index + 1, :length]
