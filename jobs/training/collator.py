"""Rows of the token table -> a batch for GPT-OSS's forward."""

from __future__ import annotations

from typing import Any

import torch

from tuneyard.training_data.token_table import IGNORED_LABEL

NO_SEGMENT = -1


class TokenCollator:
    """Right-padded batches whose logits are computed only where some row has a label.

    Gives input_ids, position_ids and labels [rows, longest], logits_to_keep [kept] and shift_labels [rows, kept].
    The loss is the same to the last bit of rounding; with GPT-OSS's vocabulary the logits of prompt tokens would be
    most of the memory. attention_mask is [rows, longest], or, when a row holds several segments, the additive
    masks [rows, 1, longest, longest] of both kinds of layers, block-diagonal by segment_ids. transformers 5.24
    makes none for GPT-OSS: other models find segments by their position_ids, GPT-OSS's forward does not hand those
    on, and every token would see all before it.
    """

    def __init__(self, pad_token_id: int, sliding_window: int, dtype: torch.dtype) -> None:
        self._pad_token_id = pad_token_id
        self._sliding_window = sliding_window
        self._dtype = dtype

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        longest = max(len(row["input_ids"]) for row in rows)

        def padded(name: str, filler: int) -> torch.Tensor:
            return torch.tensor([[*row[name], *[filler] * (longest - len(row[name]))] for row in rows])

        labels = padded("labels", IGNORED_LABEL)
        segments = padded("segment_ids", NO_SEGMENT)
        shifted = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED_LABEL)
        kept = (shifted != IGNORED_LABEL).any(dim=0).nonzero().squeeze(-1)
        return {
            "input_ids": padded("input_ids", self._pad_token_id),
            "position_ids": padded("position_ids", 0),
            "attention_mask": self._masks(segments) if segments.max() > 0 else (segments != NO_SEGMENT).long(),
            "labels": labels,
            "logits_to_keep": kept,
            "shift_labels": shifted[:, kept].contiguous(),
        }

    def _masks(self, segments: torch.Tensor) -> dict[str, torch.Tensor]:
        place = torch.arange(segments.shape[1])
        back = place[:, None] - place[None, :]
        # Padding is a segment of its own: a row of the mask that admits nothing would give NaN.
        full = (segments[:, :, None] == segments[:, None, :]) & (back >= 0)
        seen = {"full_attention": full, "sliding_attention": full & (back < self._sliding_window)}
        lowest = torch.finfo(self._dtype).min
        return {name: torch.where(may, 0.0, lowest).to(self._dtype)[:, None] for name, may in seen.items()}


def create_collator(model: Any) -> TokenCollator:
    """The collator for a model."""
    return TokenCollator(int(model.config.pad_token_id or 0), model.config.sliding_window, model.dtype)
