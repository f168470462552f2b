from __future__ import annotations

import functools
import random
from math import ceil, comb, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.api.votes.win_rate import ERROR_RATE, MAX_MORE_VOTES, Tally

counts = st.integers(0, 300)


@given(counts, counts, counts, counts)
def test_the_interval_contains_the_rate_and_lies_between_0_and_1(wins: int, losses: int, ties: int, bad: int) -> None:
    tally = Tally(wins, losses, ties, bad)
    low, high = tally.interval
    assert 0 <= low < high <= 1
    if tally.win_rate is not None:
        assert low <= tally.win_rate <= high


@given(counts, counts, counts)
def test_both_models_see_the_same_votes(wins: int, losses: int, ties: int) -> None:
    tally = Tally(wins, losses, ties)
    mirrored = tally.mirrored()
    low, high = tally.interval
    assert mirrored.interval == pytest.approx((1 - high, 1 - low), abs=1e-9)
    assert mirrored.is_settled == tally.is_settled
    assert mirrored.votes_to_settle == tally.votes_to_settle


@given(counts, counts)
def test_it_is_settled_exactly_if_the_interval_excludes_one_half(wins: int, losses: int) -> None:
    tally = Tally(wins, losses)
    low, high = tally.interval
    assert tally.is_settled == (low > 0.5 or high < 0.5)
    assert (tally.votes_to_settle == 0) == tally.is_settled


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 30))
def test_so_many_more_votes_settle_it_and_no_fewer(wins: int, losses: int, ties: int) -> None:
    tally = Tally(wins, losses, ties)
    more = tally.votes_to_settle
    if more is None:
        assert tally.decisive == 0 or abs(wins - losses) / tally.decisive < 0.05
        return
    scale = (tally.total + more) / tally.total if tally.total else 1
    if more:
        # Whole votes at the present rate, rounded to the better side, and to the worse one.
        assert Tally(ceil(max(wins, losses) * scale), floor(min(wins, losses) * scale)).is_settled
        fewer = (tally.total + more - 2 * tally.total / tally.decisive) / tally.total
        assert not Tally(floor(max(wins, losses) * fewer), ceil(min(wins, losses) * fewer)).is_settled


def test_unanimous_votes_settle_it_at_the_eighth() -> None:
    assert not Tally(7, 0).is_settled
    assert Tally(8, 0).is_settled
    assert Tally(7, 0).votes_to_settle == 1
    assert Tally(4, 0, ties=4).votes_to_settle == 8, "half of the votes are ties, so twice as many are needed"


def test_equal_models_are_never_settled() -> None:
    tally = Tally(50, 50)
    assert not tally.is_settled
    assert tally.votes_to_settle is None
    assert Tally(ties=9).votes_to_settle is None
    assert Tally(ties=9).win_rate is None
    assert Tally(50_100, 49_900).votes_to_settle is None, f"more than {MAX_MORE_VOTES} decisive votes"


@given(st.integers(1, 12), st.integers(1, 12))
def test_the_bounds_are_where_the_mixture_is_twenty_times_as_likely(wins: int, losses: int) -> None:
    """By the closed form: the mixture's likelihood is 1 / ((n + 1) C(n, wins))."""
    n = wins + losses
    mixture = 1 / ((n + 1) * comb(n, wins))
    for bound in Tally(wins, losses).interval:
        assert mixture / (bound**wins * (1 - bound) ** losses) == pytest.approx(1 / ERROR_RATE, rel=1e-6)


@pytest.mark.parametrize("true_rate", [0.5, 0.7, 0.95])
def test_the_interval_holds_for_people_who_look_after_every_vote(true_rate: float) -> None:
    """At most ERROR_RATE of 400 series of 150 votes may ever miss; Wilson's interval misses in far more of them."""
    interval = functools.cache(lambda wins, losses: Tally(wins, losses).interval)
    chance, series = random.Random(20), 400
    missed = wilson_missed = 0
    for _ in range(series):
        wins = losses = 0
        ever, wilson_ever = False, False
        for _ in range(150):
            if chance.random() < true_rate:
                wins += 1
            else:
                losses += 1
            low, high = interval(wins, losses)
            ever |= not low <= true_rate <= high
            wilson_low, wilson_high = wilson(wins, wins + losses)
            wilson_ever |= not wilson_low <= true_rate <= wilson_high
        missed += ever
        wilson_missed += wilson_ever
    assert missed / series <= ERROR_RATE
    assert wilson_missed / series > 2 * ERROR_RATE


def wilson(wins: int, votes: int) -> tuple[float, float]:
    z = 1.96
    rate, spread = wins / votes, z * z / votes
    middle = (rate + spread / 2) / (1 + spread)
    half = z / (1 + spread) * (rate * (1 - rate) / votes + spread / (4 * votes)) ** 0.5
    return middle - half, middle + half
