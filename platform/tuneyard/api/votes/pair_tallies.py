"""The tallies of all pairs of models in some votes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from tuneyard.api.votes.win_rate import Tally
from tuneyard.api.wire.platform_api.votes import ContestantOfPair, Outcome, PairSummary, VoteRequest


@dataclass(frozen=True, slots=True, order=True)
class Contestant:
    """A model and its version; "" for a version that is not known. Votes on one version say nothing about another."""

    model: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Ballot:
    """What counts of a vote: who answered, and which answer is preferred (an index), if the outcome is "preferred"."""

    contestants: Sequence[Contestant]
    outcome: Outcome
    preferred: int | None = None
    count: int = 1
    """Votes of this content."""


def tally_pairs(ballots: Iterable[Ballot]) -> dict[tuple[Contestant, Contestant], Tally]:
    """The tally of each pair of models, by the pair in alphabetical order.

    Of three or four answers, the preferred one wins against each of the others; about two others a vote says nothing.
    Two answers of one model are no pair.
    """
    tallies: dict[tuple[Contestant, Contestant], Tally] = {}
    for ballot in ballots:
        for i, j in combinations(range(len(ballot.contestants)), 2):
            first, second = ballot.contestants[i], ballot.contestants[j]
            vote = _votes_between(ballot, i, j)
            if first == second or vote is None:
                continue
            if second < first:
                first, second, vote = second, first, vote.mirrored()
            tallies[first, second] = tallies.get((first, second), Tally()).add(vote)
    return tallies


def _votes_between(ballot: Ballot, i: int, j: int) -> Tally | None:
    match ballot.outcome:
        case "tie":
            return Tally(ties=ballot.count)
        case "both_bad":
            return Tally(both_bad=ballot.count)
        case "preferred" if ballot.preferred == i:
            return Tally(wins=ballot.count)
        case "preferred" if ballot.preferred == j:
            return Tally(losses=ballot.count)
    return None


def ballot_of(vote: VoteRequest) -> Ballot:
    """What counts of a vote."""
    contestants = [Contestant(answer.model, answer.version or "") for answer in vote.answers]
    return Ballot(contestants, vote.outcome, vote.preferred)


def summarize_pairs(ballots: Iterable[Ballot]) -> list[PairSummary]:
    """The tally of each pair as the API shows it; the pairs with the most votes first."""
    tallies = sorted(tally_pairs(ballots).items(), key=lambda item: (-item[1].total, item[0]))
    return [_summarize(pair, tally) for pair, tally in tallies]


def _summarize(pair: tuple[Contestant, Contestant], tally: Tally) -> PairSummary:
    return PairSummary(
        models=[ContestantOfPair(model=c.model, version=c.version or None) for c in pair],
        wins=tally.wins,
        losses=tally.losses,
        ties=tally.ties,
        both_bad=tally.both_bad,
        win_rate=tally.win_rate,
        interval=tally.interval,
        settled=tally.is_settled,
        votes_to_settle=tally.votes_to_settle,
    )
