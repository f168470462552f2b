"""TokenCollator: makes one batch for GPT-OSS's forward pass from rows of the token table."""

from __future__ import annotations

from typing import Any

import torch

from tuneyard.planning.training.memory_plan import FLEX_BLOCK
from tuneyard.training_data.token_table import IGNORED_LABEL

PADDING_SEGMENT = -1
"""Segment id of padding: no token attends to it."""

ROW_ID = "row_id"
"""The column of rows that have numbers (jobs.training.frozen), and their tensor [rows] in a batch."""


class TokenCollator:
    """Pads rows on the right, and computes logits only at positions where at least one row has a label.

    With GPT-OSS's vocabulary of 200,000 tokens, the logits of prompt tokens would take most of the memory. Leaving
    them out changes the loss by fp32 rounding at most.

    A batch holds:

    - `input_ids`, `position_ids`, `labels`: [rows, longest]
    - `segment_ids`: [rows, longest], PADDING_SEGMENT for padding
    - `logits_to_keep`: [kept], the positions whose logits are computed
    - `shift_labels`: [rows, kept], the label that follows each of these positions, IGNORED_LABEL where there is no loss
    - `attention_mask`: [rows, longest]. If a row holds several segments (packed batching): the masks of the full and
      the sliding layers, block-diagonal by segment_ids. They are additive, [rows, 1, longest, longest], or
      flex_attention's BlockMasks on its GPU.

    The masks are made here because transformers 5.24 makes none for packed GPT-OSS: other models find the segments by
    their position_ids, but GPT-OSS's forward does not pass those on, and every token would attend to all before it.
    """

    def __init__(
        self, pad_token_id: int, sliding_window: int, dtype: torch.dtype, flex_device: torch.device | None = None
    ) -> None:
        """`flex_device` is the GPU of a model with flex_attention; None makes masks for eager attention."""
        self._pad_token_id = pad_token_id
        self._sliding_window = sliding_window
        self._dtype = dtype
        self._flex_device = flex_device

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        longest = max(len(row["input_ids"]) for row in rows)
        if self._flex_device is not None:
            longest = -(-longest // FLEX_BLOCK) * FLEX_BLOCK

        def pad(column: str, filler: int) -> torch.Tensor:
            return torch.tensor([[*row[column], *[filler] * (longest - len(row[column]))] for row in rows])

        labels = pad("labels", IGNORED_LABEL)
        segments = pad("segment_ids", PADDING_SEGMENT)
        shifted = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED_LABEL)
        kept = (shifted != IGNORED_LABEL).any(dim=0).nonzero().squeeze(-1)
        has_packs = bool(segments.max() > 0)
        row_ids = {ROW_ID: torch.tensor([row[ROW_ID] for row in rows])} if ROW_ID in rows[0] else {}
        return row_ids | {
            "input_ids": pad("input_ids", self._pad_token_id),
            "position_ids": pad("position_ids", 0),
            "attention_mask": self._packed_masks(segments) if has_packs else (segments != PADDING_SEGMENT).long(),
            "labels": labels,
            "segment_ids": segments,
            "logits_to_keep": kept,
            "shift_labels": shifted[:, kept].contiguous(),
        }

    def _packed_masks(self, segments: torch.Tensor) -> dict[str, Any]:
        """Masks by transformers' layer types, from the segment ids [rows, length]."""
        if self._flex_device is not None:
            from jobs.training.flex_attention import packed_block_masks

            return packed_block_masks(segments.to(self._flex_device), self._sliding_window, FLEX_BLOCK)
        position = torch.arange(segments.shape[1])
        distance = position[:, None] - position[None, :]
        # Padding is a segment of its own: a mask row that admits no position would give NaN.
        full = (segments[:, :, None] == segments[:, None, :]) & (distance >= 0)
        visible = {"full_attention": full, "sliding_attention": full & (distance < self._sliding_window)}
        lowest = torch.finfo(self._dtype).min
        return {name: torch.where(mask, 0.0, lowest).to(self._dtype)[:, None] for name, mask in visible.items()}


def create_collator(model: Any) -> TokenCollator:
    """The collator with the padding token, sliding window and dtype of `model`, and masks for its attention."""
    uses_flex = "flex" in (model.config._attn_implementation or "")
    # A model that waits on the CPU is trained on this process' GPU.
    device = torch.device("cuda", torch.cuda.current_device()) if uses_flex else None
    return TokenCollator(int(model.config.pad_token_id or 0), model.config.sliding_window, model.dtype, device)
