"""RateBucket: a limit per minute as a token bucket."""

from __future__ import annotations

import math
from collections.abc import Callable

_ROUNDING = 1e-6
"""Larger than the error of the arithmetic, smaller than any difference that matters."""


class RateBucket:
    """Starts full with `per_minute` units and refills evenly.

    More may be taken than is available: the bucket's level then becomes negative, and must be refilled first. `now`
    gives seconds.
    """

    def __init__(self, per_minute: int, now: Callable[[], float]) -> None:
        self.per_minute = per_minute
        self._now = now
        self._level = float(per_minute)
        self._refilled_at = now()

    def take(self, amount: float) -> None:
        """Takes units, whether they are available or not."""
        self._level = self._refilled_level() - amount

    @property
    def available(self) -> int:
        """Whole units that can be taken now; 0 if the level is negative."""
        return max(0, math.floor(self._refilled_level()))

    @property
    def used(self) -> int:
        """Whole units that were taken and are not refilled yet."""
        return math.ceil(self.per_minute - self._refilled_level() - _ROUNDING)

    @property
    def is_empty(self) -> bool:
        """True if not even one unit is available."""
        return self._refilled_level() < 1

    def seconds_until(self, amount: float) -> float:
        """Seconds until `amount` units are available."""
        return max(0.0, (amount - self._refilled_level()) * 60 / self.per_minute)

    def _refilled_level(self) -> float:
        now = self._now()
        self._level = min(self.per_minute, self._level + (now - self._refilled_at) * self.per_minute / 60)
        self._refilled_at = now
        return self._level
