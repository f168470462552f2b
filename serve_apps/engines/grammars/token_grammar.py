"""Grammars over a model's tokens, by llguidance: which tokens may come next in an answer."""

from __future__ import annotations

from typing import Any

import llguidance.numpy
import numpy as np

from serve_apps.engines.grammars.grammar_proof import first_line


class TokenGrammar:
    """The grammar's state within one answer. Use it from one thread at a time.

    `error` is None, or why the grammar cannot continue: some schemas turn out to be unenforceable only on the way.
    """

    def __init__(self, matcher: Any, vocabulary_size: int) -> None:
        self._matcher = matcher
        self._vocabulary_size = vocabulary_size
        self.error: str | None = None
        self._bitmask = llguidance.numpy.allocate_token_bitmask(1, vocabulary_size)

    def allowed_tokens(self) -> np.ndarray | None:
        """Which tokens may come next, as booleans [vocabulary]; None after an error."""
        llguidance.numpy.fill_next_token_bitmask(self._matcher, self._bitmask, 0)
        self._update_error()
        if self.error is not None:
            return None
        bits = np.unpackbits(self._bitmask[0].view(np.uint8), bitorder="little")[: self._vocabulary_size]
        return bits.astype(np.bool_)

    def accept(self, token: int) -> None:
        """Advances the state by a chosen token."""
        self._matcher.consume_token(token)
        self._update_error()

    def try_accept(self, token: int) -> bool:
        """Advances the state by the token if it may come next, and returns whether it may. False after an error."""
        is_accepted = self._matcher.try_consume_tokens([token]) == 1
        self._update_error()
        return is_accepted and self.error is None

    def _update_error(self) -> None:
        if self.error is None and self._matcher.is_error():
            self.error = first_line(self._matcher.get_error())
