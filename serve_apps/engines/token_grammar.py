"""Grammars over a model's tokens, by llguidance: which tokens may come next, for one request each."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import llguidance
import llguidance.numpy
import numpy as np
import torch

from tuneyard.core.errors import RequestError


class TokenGrammars:
    """Compiles grammars for a checkpoint's tokenizer, which is read when the first one is asked for. Thread-safe."""

    def __init__(self, checkpoint: Path, vocabulary: int) -> None:
        self._path = checkpoint / "tokenizer.json"
        self._vocabulary = vocabulary
        self._tokenizer: Any = None
        self._lock = threading.Lock()

    def compile(self, grammar: str) -> TokenGrammar:
        """Raises RequestError for a grammar, or a JSON schema in it, that cannot be enforced."""
        with self._lock:
            if self._tokenizer is None:
                # With the logits' size: a model's vocabulary may be padded.
                text = self._path.read_text(encoding="utf-8")
                self._tokenizer = llguidance.LLTokenizer(text, n_vocab=self._vocabulary)
        problem = llguidance.LLMatcher.validate_grammar(grammar, self._tokenizer)
        if problem:
            raise RequestError(
                f"The schema cannot be enforced: {_first_line(problem)}", param="response_format", code="invalid_schema"
            )
        made = TokenGrammar(llguidance.LLMatcher(self._tokenizer, grammar), self._vocabulary)
        made.restrict(torch.zeros(1, self._vocabulary))
        if made.problem is not None:
            raise RequestError(
                f"The schema cannot be enforced: {made.problem}", param="response_format", code="invalid_schema"
            )
        return made


class TokenGrammar:
    """The state of one answer. Used from one thread at a time. `problem`: what broke it, when it can go on no more;
    some schemas show it only when they are reached.
    """

    def __init__(self, matcher: Any, vocabulary: int) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self.problem: str | None = None
        self._bits = llguidance.numpy.allocate_token_bitmask(1, vocabulary)

    def restrict(self, logits: torch.Tensor) -> None:
        """Sets the logits [1, vocabulary] of tokens that may not come next to -inf, in place; a broken one, nothing."""
        llguidance.numpy.fill_next_token_bitmask(self._matcher, self._bits, 0)
        self._look()
        if self.problem is not None:
            return
        allowed = np.unpackbits(self._bits[0].view(np.uint8), bitorder="little")[: self._vocabulary]
        logits[0, torch.from_numpy(allowed == 0).to(logits.device)] = float("-inf")

    def accept(self, token: int) -> None:
        """Steps past a chosen token."""
        self._matcher.consume_token(token)
        self._look()

    def _look(self) -> None:
        if self.problem is None and self._matcher.is_error():
            self.problem = _first_line(self._matcher.get_error())


def _first_line(problem: str) -> str:
    return problem.strip().splitlines()[0]
