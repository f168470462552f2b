"""PromptScorer: log-probabilities of a prompt's own tokens, by a forward pass beside continuous batching."""

from __future__ import annotations

import asyncio
import copy
import inspect
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import transformers

from serve_apps.engines.engine import TokenLogprob
from tuneyard.core.errors import EngineError

TOKENS_PER_STEP = 128
"""Tokens of one forward pass: of GPT-OSS, the log-probabilities of 128 tokens take 100 MB."""


class PromptScorer:
    """Scores prompts with a transformers model, one at a time, in a thread of its own.

    The model's weights are shared, not copied. Create the scorer before the model is used for continuous batching,
    whose attention reads a paged cache: the scorer's reads an ordinary one.
    """

    def __init__(self, model: Any) -> None:
        shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        self._model = copy.deepcopy(model, shared)
        self._model.set_attn_implementation("eager")
        # Newer versions of transformers 5 have the shorter name.
        arguments = inspect.signature(self._model.forward).parameters
        self._cache_argument = "cache" if "cache" in arguments else "past_key_values"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prompt-scorer")

    async def score(self, token_ids: Sequence[int], top: int) -> tuple[TokenLogprob, ...]:
        """One entry per token but the first, which nothing precedes, with the `top` most likely tokens at its position.

        Cancelling ends the work after the forward pass that is running. Raises EngineError if the model's logits are
        no numbers.
        """
        is_cancelled = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, self._score, list(token_ids), top, is_cancelled
            )
        except asyncio.CancelledError:
            is_cancelled.set()
            raise

    def close(self) -> None:
        """Ends the thread once it is idle."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    @torch.inference_mode()
    def _score(self, token_ids: list[int], top: int, is_cancelled: threading.Event) -> tuple[TokenLogprob, ...]:
        entries: list[TokenLogprob] = []
        cache = {self._cache_argument: transformers.DynamicCache(config=self._model.config)}
        last = len(token_ids) - 1
        for start in range(0, last, TOKENS_PER_STEP):
            if is_cancelled.is_set():
                return ()
            end = min(start + TOKENS_PER_STEP, last)
            step = torch.tensor([token_ids[start:end]], device=self._model.device)
            output = self._model(step, use_cache=True, **cache)
            log_probabilities = output.logits[0].float().log_softmax(-1).cpu()
            if bool(log_probabilities.isnan().any()):
                raise EngineError("The model's logits are not numbers (NaN), so the prompt has no log-probabilities.")
            entries += _entries(log_probabilities, token_ids[start + 1 : end + 1], top)
        return tuple(entries)


def _entries(log_probabilities: torch.Tensor, targets: list[int], top: int) -> list[TokenLogprob]:
    """The entries of the tokens `targets`, by the log-probabilities [tokens, vocabulary] before each."""
    chosen = log_probabilities.gather(1, torch.tensor(targets)[:, None])[:, 0].tolist()
    best = log_probabilities.topk(top) if top else None
    return [
        TokenLogprob(
            token,
            logprob,
            () if best is None else tuple(zip(best.indices[row].tolist(), best.values[row].tolist(), strict=True)),
        )
        for row, (token, logprob) in enumerate(zip(targets, chosen, strict=True))
    ]
