"""A transformers model's logits at the positions that predict labelled tokens."""

from __future__ import annotations

import numpy as np
import torch
from accelerate.utils import send_to_device

from jobs.training.collator import create_collator


def label_logits(model: torch.nn.Module, rows: list[dict[str, list[int]]]) -> list[np.ndarray]:
    """fp32 logits [positions, vocabulary] per row of the token table, at the positions that predict labelled tokens.

    The export proof and the held-out loss compare these. Runs one row at a time, on the model's own device.
    """
    result = []
    collator = create_collator(model)
    with torch.inference_mode():
        for row in rows:
            batch = send_to_device(collator([row]), next(model.parameters()).device)
            names = ("input_ids", "position_ids", "attention_mask", "logits_to_keep")
            logits = model(**{name: batch[name] for name in names}).logits
            result.append(logits[0].float().cpu().numpy())
    return result
