"""retry_delay_s: how long the reconciler waits before it tries again what has failed."""

from __future__ import annotations

MAX_DOUBLINGS = 60
"""More would overflow a float after hours of failures."""


def retry_delay_s(first_s: float, doublings: int, longest_s: float) -> float:
    """`first_s` seconds, doubled so many times, and at most `longest_s`."""
    return min(first_s * 2.0 ** min(doublings, MAX_DOUBLINGS), longest_s)
