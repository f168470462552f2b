"""Tally: the votes between two models, their win rate, its interval, and how many more votes would settle it.

Ties, and votes that both answers are bad, are counted and left out of the win rate: they do not say which is better.

People look at the rate after every vote, and stop when they like what they see. The usual intervals (Wilson,
Clopper-Pearson) hold for a number of votes that was fixed before, and are wrong far more often than they say for people
who look again and again. The interval here is a confidence sequence: with probability 1 - ERROR_RATE it contains the
true rate after every vote, however often one looks. Source: Ville's inequality for the mixture of all rates with equal
weight; H. Robbins, "Statistical methods related to the law of the iterated logarithm", 1970. The price is small: 8
votes for one model and none for the other settle it, where a test that may look only once needs 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, lgamma, log

ERROR_RATE = 0.05
"""Probability that the interval misses the true rate after any vote."""

MAX_MORE_VOTES = 10_000
"""Decisive votes beyond which `votes_to_settle` says None: the models are equal for all purposes."""

_EVEN = 0.5
_STEPS = 60
"""Halvings of an interval: the bounds are exact to the last bit of a float."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Votes between two models: `wins` of the first, `losses` of the first, and votes for neither."""

    wins: int = 0
    losses: int = 0
    ties: int = 0
    both_bad: int = 0

    @property
    def decisive(self) -> int:
        """Votes that prefer one of the two."""
        return self.wins + self.losses

    @property
    def total(self) -> int:
        """All votes."""
        return self.decisive + self.ties + self.both_bad

    @property
    def win_rate(self) -> float | None:
        """Share of decisive votes for the first model, 0 to 1; None without decisive votes."""
        return self.wins / self.decisive if self.decisive else None

    @property
    def interval(self) -> tuple[float, float]:
        """Bounds of the true win rate that hold after every vote; (0, 1) without decisive votes."""
        if self.decisive == 0:
            return 0.0, 1.0
        rate = self.wins / self.decisive
        low = _bound(self.wins, self.losses, inside=rate, outside=0.0) if self.wins else 0.0
        high = _bound(self.wins, self.losses, inside=rate, outside=1.0) if self.losses else 1.0
        return low, high

    @property
    def is_settled(self) -> bool:
        """Whether the votes show that one of the models is preferred."""
        return _evidence(self.wins, self.losses, _EVEN) >= log(1 / ERROR_RATE)

    @property
    def votes_to_settle(self) -> int | None:
        """More votes until one model is shown to be preferred, if ties and wins stay as frequent as they were.

        0 if that is so now; None without decisive votes, and where more than MAX_MORE_VOTES decisive ones are needed.
        """
        if self.is_settled:
            return 0
        if self.decisive == 0 or not _settles(self, MAX_MORE_VOTES):
            return None
        too_few, enough = 0, MAX_MORE_VOTES
        while enough - too_few > 1:
            middle = (too_few + enough) // 2
            too_few, enough = (too_few, middle) if _settles(self, middle) else (middle, enough)
        return ceil(enough * self.total / self.decisive)

    def add(self, other: Tally) -> Tally:
        """The votes of both tallies."""
        return Tally(
            self.wins + other.wins,
            self.losses + other.losses,
            self.ties + other.ties,
            self.both_bad + other.both_bad,
        )

    def mirrored(self) -> Tally:
        """The same votes, seen from the second model."""
        return Tally(self.losses, self.wins, self.ties, self.both_bad)


def _settles(tally: Tally, more: int) -> bool:
    """Whether `more` votes at the present rate settle it. True for every larger number too, if `tally` is unsettled."""
    scale = 1 + more / tally.decisive
    return _evidence(tally.wins * scale, tally.losses * scale, _EVEN) >= log(1 / ERROR_RATE)


def _evidence(wins: float, losses: float, rate: float) -> float:
    """Logarithm of how much better the mixture of all rates explains the votes than `rate` does."""
    if (rate <= 0 and wins > 0) or (rate >= 1 and losses > 0):
        return inf
    mixture = lgamma(wins + 1) + lgamma(losses + 1) - lgamma(wins + losses + 2)
    return mixture - (wins * log(rate) if wins else 0.0) - (losses * log(1 - rate) if losses else 0.0)


def _bound(wins: int, losses: int, *, inside: float, outside: float) -> float:
    """The rate between `inside` and `outside` at which the evidence reaches its limit."""
    limit = log(1 / ERROR_RATE)
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        if _evidence(wins, losses, middle) < limit:
            inside = middle
        else:
            outside = middle
    return outside
