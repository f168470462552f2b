"""Measures the loss of a checkpoint on held-out chats, with transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import transformers
from tqdm import tqdm

from jobs.training.label_logits import label_logits
from jobs.training.model_loading import load_dequantised
from tuneyard.chats.dataset import DatasetScan
from tuneyard.chats.messages import ChatExample
from tuneyard.chats.row_settings import RowSettings
from tuneyard.core.errors import DatasetError
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.training_data.token_table import IGNORED_LABEL, TOKEN_COLUMNS, build_token_table

TokenRow = dict[str, list[int]]
"""A row of the token table: TOKEN_COLUMNS by name."""


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


def checkpoint_loss(folder: Path, rows: list[TokenRow], description: str) -> float:
    """The mean negative log-likelihood of the labelled tokens, in nats per token.

    MXFP4 experts are dequantised at loading. On a CPU it computes in fp32. On a GPU it computes in the checkpoint's
    dtype, and layers that do not fit the GPU are kept in main memory or on disk. `description` labels the progress bar.
    """
    on_gpu = torch.cuda.is_available()
    transformers.utils.logging.disable_progress_bar()
    # Hides transformers' warning that it dequantises MXFP4 on a CPU, which is intended here.
    transformers.utils.logging.set_verbosity_error()
    model = load_dequantised(
        folder, "auto" if on_gpu else torch.float32, on_gpu=on_gpu, device_map="auto" if on_gpu else None
    ).eval()
    if not on_gpu:
        model = model.float()
    total, tokens = 0.0, 0
    for row in tqdm(rows, desc=description, unit="row", dynamic_ncols=True, disable=None):
        labels = np.array([label for label in row["labels"][1:] if label != IGNORED_LABEL])
        (logits,) = label_logits(model, [row])
        # -log softmax at the label; the largest logit is subtracted so that exp does not overflow.
        peak = logits.max(-1, keepdims=True)
        log_sum = peak[:, 0] + np.log(np.exp(logits - peak).sum(-1))
        total += float((log_sum - logits[np.arange(len(labels)), labels]).sum())
        tokens += len(labels)
    return total / tokens
