"""Per-request sampling inside transformers' continuous batching, as a logits processor."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

import torch
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessor

from serve_apps.engines.token_sampling import TokenChooser

GREEDY_ID = 0
"""Chooser id of requests without a chooser."""


class RequestSampler(ContinuousBatchingLogitsProcessor):
    """Chooses each request's next token with that request's TokenChooser.

    transformers always takes the most likely token of a batch row, so this leaves only the chosen token's logit finite.
    Rows of greedy requests pass unchanged. transformers' own per-request processors would sort the whole vocabulary for
    every row.

    `add` registers a chooser before its request is submitted with `chooser_id` as a keyword argument; `remove` forgets
    it. Both are thread-safe.
    """

    supported_kwargs: ClassVar[dict[str, type]] = {"chooser_id": int}
    ignored_kwargs: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._choosers: dict[int, TokenChooser] = {}
        self._next_id = GREEDY_ID + 1

    def add(self, chooser: TokenChooser) -> int:
        """Registers a chooser and returns its id."""
        with self._lock:
            chooser_id = self._next_id
            # transformers stores the id as int32.
            self._next_id = chooser_id + 1 if chooser_id < 2**31 - 1 else GREEDY_ID + 1
            self._choosers[chooser_id] = chooser
        return chooser_id

    def remove(self, chooser_id: int) -> None:
        """Forgets a chooser; ignores unknown ids."""
        with self._lock:
            self._choosers.pop(chooser_id, None)

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        int32_tensor.fill_(GREEDY_ID)

    def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> torch.Tensor:
        ids = [r.state.logit_processor_kwargs.get("chooser_id", GREEDY_ID) for r in requests_with_new_token]
        return torch.tensor(ids, dtype=torch.int32)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """The logits `scores` [rows, vocabulary] with only the chosen token of each row finite.

        `tensor_arg` holds the rows' chooser ids; it may be longer than `scores`.
        """
        ids = tensor_arg[: scores.size(0)].tolist()
        with self._lock:
            row_choosers = [(row, self._choosers[id_]) for row, id_ in enumerate(ids) if id_ in self._choosers]
        if not row_choosers:
            return scores
        scores = scores.clone()
        for row, chooser in row_choosers:
            token = chooser.choose(scores[row : row + 1])
            scores[row] = float("-inf")
            scores[row, token] = 0.0
        return scores
