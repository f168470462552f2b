"""Measures the loss of a checkpoint on held-out chats, with transformers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from jobs.training.label_logits import label_logits
from jobs.training.model_loading import load_for_measuring
from tuneyard.chats.dataset import DatasetScan
from tuneyard.chats.messages import ChatExample
from tuneyard.chats.row_settings import RowSettings
from tuneyard.checkpoints.manifest import CheckpointManifest
from tuneyard.core.errors import ConfigError, DatasetError
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings
from tuneyard.training_data.token_table import IGNORED_LABEL, TOKEN_COLUMNS, build_token_table

TokenRow = dict[str, list[int]]
"""A row of the token table: TOKEN_COLUMNS by name."""

DEFAULT_MAX_LENGTH = 4096
"""Longest row, in tokens, that is measured for a source whose manifest holds no data.max_length."""


@dataclass(frozen=True, slots=True)
class HeldoutChats:
    """What a checkpoint's loss is measured on."""

    location: str
    codec: HarmonyCodec
    """That of the checkpoint."""

    rows: list[TokenRow]


def heldout_chats(folder: Path, source: CheckpointManifest, location: str | None, limit: int) -> HeldoutChats:
    """Up to `limit` assistant turns of the chats at `location`, rendered as in the training of the checkpoint `folder`.

    `source` is its manifest; `location` None is the held-out data of its training run, of pairs the chosen answers.
    Raises ConfigError when it had none, and DatasetError as heldout_rows does.
    """
    settings = source.codec.codec_settings() if source.codec else CodecSettings()
    codec = HarmonyCodec.from_checkpoint(folder, settings)
    data = source.config.get("data", {})
    location = location or data.get("heldout")
    if not location:
        raise ConfigError(
            f"{source.name} was trained without held-out chats, so its loss cannot be measured. "
            "Give some with --heldout FILE."
        )
    row_settings = RowSettings.model_validate({name: data[name] for name in RowSettings.model_fields if name in data})
    if row_settings.preference == "pairs":
        row_settings = row_settings.model_copy(update={"preference": "chosen"})
    max_length = int(data.get("max_length", DEFAULT_MAX_LENGTH))
    return HeldoutChats(location, codec, heldout_rows(location, codec, max_length, limit, row_settings))


def heldout_rows(
    location: str, codec: HarmonyCodec, max_length: int, limit: int, settings: RowSettings | None = None
) -> list[TokenRow]:
    """Up to `limit` assistant turns of a chat dataset, as rows of the token table.

    `settings` says how its rows become chats. Turns of more than `max_length` tokens are left out. Raises DatasetError
    when none is left or a row is broken.
    """
    examples: list[ChatExample] = []
    # Reads all rows, also after the limit, so that a broken row is reported wherever it is.
    for example in DatasetScan(location, settings):
        if len(examples) < limit:
            examples.append(example)
    table = build_token_table(examples, codec, max_length).rows.select(list(TOKEN_COLUMNS))
    rows: list[TokenRow] = table.to_pylist()[:limit]
    if not rows:
        raise DatasetError(
            f"{location}: holds no assistant turn of at most {max_length} tokens, so there is no loss to measure."
        )
    return rows


def checkpoint_loss(folder: Path, rows: Sequence[TokenRow], description: str) -> float:
    """The mean negative log-likelihood of the labelled tokens, in nats per token; otherwise as label_log_probs."""
    total, tokens = 0.0, 0
    for log_probs, labels in label_log_probs(folder, rows, description):
        total -= float(log_probs[np.arange(len(labels)), labels].sum())
        tokens += len(labels)
    return total / tokens


def label_log_probs(
    folder: Path, rows: Sequence[TokenRow], description: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields a checkpoint's log-probabilities [places, vocabulary], in nats, and the labels [places] of each row.

    The model is loaded by load_for_measuring. `description` labels the progress bar.
    """
    model = load_for_measuring(folder)
    for row in tqdm(rows, desc=description, unit="row", dynamic_ncols=True, disable=None):
        labels = np.array([label for label in row["labels"][1:] if label != IGNORED_LABEL])
        (logits,) = label_logits(model, [row])
        # The largest logit is subtracted so that exp does not overflow.
        shifted = logits - logits.max(-1, keepdims=True)
        yield shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)), labels
