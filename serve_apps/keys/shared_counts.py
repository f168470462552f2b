"""What a request has taken of limits that all replicas share."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SharedCount:
    """What is left of a limit, and the seconds until all of it is available again."""

    remaining: int
    reset_s: float


@dataclass(slots=True)
class Reservation:
    """The tokens of one request in one window."""

    name: str
    """Name of the window's counter."""
    expiry_s: int
    """Length of the window."""
    tokens: int
    ends_at: float
    """Unix time at which the window ends, and with it what was reserved."""
    used: int = 0
    """Tokens that were charged in this window."""


@dataclass(slots=True)
class TokenClaim:
    """What one request has reserved, and what is left to the key for this minute."""

    reservations: list[Reservation] = field(default_factory=list)
    left: SharedCount = SharedCount(0, 0.0)
