from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tuneyard.api.votes.pair_tallies import Ballot, Contestant, summarize_pairs, tally_pairs
from tuneyard.api.votes.win_rate import Tally

BASE, TUNED, OTHER = Contestant("base"), Contestant("tuned", "support/3"), Contestant("other")


@st.composite
def ballots(draw: st.DrawFn) -> Ballot:
    contestants = draw(st.permutations([BASE, TUNED, OTHER, Contestant("tuned", "support/4")]))
    shown = contestants[: draw(st.integers(2, 4))]
    outcome = draw(st.sampled_from(["preferred", "tie", "both_bad"]))
    preferred = draw(st.integers(0, len(shown) - 1)) if outcome == "preferred" else None
    return Ballot(shown, outcome, preferred, draw(st.integers(1, 3)))


@given(st.lists(ballots(), max_size=30))
def test_every_vote_counts_once_for_each_pair_that_it_says_something_about(cast: list[Ballot]) -> None:
    expected: Counter[tuple[Contestant, Contestant]] = Counter()
    for ballot in cast:
        for i, first in enumerate(ballot.contestants):
            for second in ballot.contestants[i + 1 :]:
                names = (min(first, second), max(first, second))
                winner = ballot.contestants[ballot.preferred] if ballot.preferred is not None else None
                if winner is None or winner in names:
                    expected[names] += ballot.count
    assert {pair: tally.total for pair, tally in tally_pairs(cast).items()} == expected


@given(st.lists(ballots(), max_size=20))
def test_the_order_on_the_page_does_not_count(cast: list[Ballot]) -> None:
    turned = [
        Ballot(
            ballot.contestants[::-1],
            ballot.outcome,
            None if ballot.preferred is None else len(ballot.contestants) - 1 - ballot.preferred,
            ballot.count,
        )
        for ballot in cast
    ]
    assert tally_pairs(turned) == tally_pairs(cast)


def test_versions_are_models_of_their_own() -> None:
    newer = Contestant("tuned", "support/4")
    tallies = tally_pairs([Ballot([BASE, TUNED], "preferred", 1), Ballot([newer, BASE], "preferred", 0)])
    assert tallies == {(BASE, TUNED): Tally(losses=1), (BASE, newer): Tally(losses=1)}
    assert tally_pairs([Ballot([BASE, BASE], "preferred", 1)]) == {}


def test_the_pair_with_the_most_votes_comes_first() -> None:
    cast = [Ballot([BASE, OTHER], "tie"), *[Ballot([TUNED, BASE], "preferred", 0)] * 9]
    first, second = summarize_pairs(cast)
    assert [(model.model, model.version) for model in first.models] == [("base", None), ("tuned", "support/3")]
    assert (first.wins, first.losses, first.win_rate, first.settled) == (0, 9, 0.0, True)
    assert (second.ties, second.win_rate, second.settled, second.votes_to_settle) == (1, None, False, None)
