"""RequestWindow: how many requests of batches are sent to a model at the same time, by what its replicas answer."""

from __future__ import annotations

SHRINKING = 0.9
"""Factor of the window after a refusal. Replicas keep a waiting request for each fourth running one, see
IdleCapacityEngine, so the engine stays full meanwhile."""

REFUSALS_S = 1.0
"""Refusals within so many seconds count as one: they come from requests that were sent before the first."""


class RequestWindow:
    """A window as TCP has it: it doubles until the first refusal, then grows slowly, and shrinks with each refusal.

    So it follows what is idle without knowing engines, replicas, or how many live requests they have.
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._size = 1.0
        self._is_probing = True
        self._shrunk_at = float("-inf")

    @property
    def size(self) -> int:
        """Requests that may be sent at the same time, at least 1."""
        return int(self._size)

    def record_answer(self) -> None:
        """A replica had capacity for a request, and answered it."""
        self._size = min(self._max_size, self._size + (1.0 if self._is_probing else 1.0 / self._size))

    def record_refusal(self, now: float) -> None:
        """A replica had no idle capacity, at `now` in seconds."""
        self._is_probing = False
        if now - self._shrunk_at >= REFUSALS_S:
            self._shrunk_at = now
            self._size = max(1.0, self._size * SHRINKING)
