"""Grammars over a model's tokens, by llguidance: which tokens may come next in an answer."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import llguidance
import llguidance.numpy
import numpy as np
import torch

from tuneyard.core.errors import RequestError


class GrammarCompiler:
    """Compiles grammars for a checkpoint's tokenizer. Thread-safe. The first call of `compile` reads the tokenizer."""

    def __init__(self, checkpoint: Path, vocabulary_size: int) -> None:
        self._path = checkpoint / "tokenizer.json"
        self._vocabulary_size = vocabulary_size
        self._tokenizer: Any = None
        self._lock = threading.Lock()

    def compile(self, grammar: str) -> TokenGrammar:
        """The grammar at the start of an answer. Raises RequestError if it, or a JSON schema in it, is not enforceable.

        `grammar` is in llguidance's syntax.
        """
        with self._lock:
            if self._tokenizer is None:
                # The size of the logits, because a model's vocabulary may be larger than its tokenizer's.
                text = self._path.read_text(encoding="utf-8")
                self._tokenizer = llguidance.LLTokenizer(text, n_vocab=self._vocabulary_size)
        error = llguidance.LLMatcher.validate_grammar(grammar, self._tokenizer)
        if error:
            raise _schema_error(_first_line(error))
        compiled = TokenGrammar(llguidance.LLMatcher(self._tokenizer, grammar), self._vocabulary_size)
        compiled.mask(torch.zeros(1, self._vocabulary_size))
        if compiled.error is not None:
            raise _schema_error(compiled.error)
        return compiled


class TokenGrammar:
    """The grammar's state within one answer. Use it from one thread at a time.

    `error` is None, or why the grammar cannot continue: some schemas turn out to be unenforceable only on the way.
    """

    def __init__(self, matcher: Any, vocabulary_size: int) -> None:
        self._matcher = matcher
        self._vocabulary_size = vocabulary_size
        self.error: str | None = None
        self._bitmask = llguidance.numpy.allocate_token_bitmask(1, vocabulary_size)

    def mask(self, logits: torch.Tensor) -> None:
        """Sets the logits [1, vocabulary] of all tokens that may not come next to -inf, in place.

        After an error it changes nothing.
        """
        llguidance.numpy.fill_next_token_bitmask(self._matcher, self._bitmask, 0)
        self._update_error()
        if self.error is not None:
            return
        is_allowed = np.unpackbits(self._bitmask[0].view(np.uint8), bitorder="little")[: self._vocabulary_size]
        logits[0, torch.from_numpy(is_allowed == 0).to(logits.device)] = float("-inf")

    def accept(self, token: int) -> None:
        """Advances the state by a chosen token."""
        self._matcher.consume_token(token)
        self._update_error()

    def _update_error(self) -> None:
        if self.error is None and self._matcher.is_error():
            self.error = _first_line(self._matcher.get_error())


def _schema_error(reason: str) -> RequestError:
    return RequestError(f"The schema cannot be enforced: {reason}", param="response_format", code="invalid_schema")


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0]
