"""The loss of a checkpoint on held-out chats, as anyone with transformers would find it."""

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
from tuneyard.core.errors import DatasetError
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.training_data.token_table import IGNORED_LABEL, TOKEN_COLUMNS, build_token_table

TokenRow = dict[str, list[int]]


def heldout_rows(location: str, codec: HarmonyCodec, max_length: int, limit: int) -> list[TokenRow]:
    """Up to `limit` assistant turns of a chat file as rows of the token table; turns over max_length are left out.

    Raises DatasetError when none is left, or the file is not one of chats.
    """
    examples: list[ChatExample] = []
    for example in DatasetScan(location):
        # To the end, so that a broken row is found wherever it stands.
        if len(examples) < limit:
            examples.append(example)
    table = build_token_table(examples, codec, max_length).rows.select(list(TOKEN_COLUMNS))
    rows: list[TokenRow] = table.to_pylist()[:limit]
    if not rows:
        raise DatasetError(f"{location}: no assistant turn of at most {max_length} tokens, so no loss to measure.")
    return rows


def checkpoint_loss(folder: Path, rows: list[TokenRow], what: str) -> float:
    """Mean negative log-likelihood of the labelled tokens, nats. MXFP4 experts are dequantised when loading.

    fp32 on a CPU; on a GPU in the checkpoint's dtype, spilling over into memory and disk where it does not fit.
    """
    on_gpu = torch.cuda.is_available()
    transformers.utils.logging.disable_progress_bar()
    # Else it says of every MXFP4 checkpoint on a CPU that it dequantises it, as it was told to.
    transformers.utils.logging.set_verbosity_error()
    model = load_dequantised(
        folder, "auto" if on_gpu else torch.float32, on_gpu=on_gpu, device_map="auto" if on_gpu else None
    ).eval()
    if not on_gpu:
        model = model.float()
    total, tokens = 0.0, 0
    for row in tqdm(rows, desc=what, unit="row", dynamic_ncols=True, disable=None):
        labels = np.array([label for label in row["labels"][1:] if label != IGNORED_LABEL])
        (logits,) = label_logits(model, [row])
        peak = logits.max(-1, keepdims=True)
        log_total = peak[:, 0] + np.log(np.exp(logits - peak).sum(-1))
        total += float((log_total - logits[np.arange(len(labels)), labels]).sum())
        tokens += len(labels)
    return total / tokens
