"""ComparisonMemory: the comparisons of open pages, so that a reloaded page finds its own again.

They are kept by the page's server, because a browser that kept them would hold the names of a blind round.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict

from ui.compare.comparison import Comparison

MAX_COMPARISONS = 1_000
"""Comparisons of all visitors; the one that was used least recently goes first."""


class ComparisonMemory:
    """Comparisons by tokens that cannot be guessed; a browser tab keeps its token."""

    def __init__(self, limit: int = MAX_COMPARISONS) -> None:
        self._limit = limit
        self._comparisons: OrderedDict[str, Comparison] = OrderedDict()

    def find(self, token: str) -> Comparison | None:
        """The comparison of a token; None if there is none, for example since the server was restarted."""
        if token in self._comparisons:
            self._comparisons.move_to_end(token)
        return self._comparisons.get(token)

    def create(self) -> tuple[str, Comparison]:
        """A new comparison and its token."""
        token = secrets.token_urlsafe(16)
        self._comparisons[token] = Comparison()
        while len(self._comparisons) > self._limit:
            self._comparisons.popitem(last=False)
        return token, self._comparisons[token]
