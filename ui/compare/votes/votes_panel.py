"""The votes so far as HTML: the win rate of each pair of models with its interval, and what would settle it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tuneyard.api.wire.platform_api.votes import ContestantOfPair, PairSummary, VoteSummary
from tuneyard.core.wording import count_of
from ui.compare.comparison import LETTERS, MIN_MODELS, CastVote

MAX_PAIRS = 12


def problem_html(text: str) -> str:
    """Why votes cannot be read or kept."""
    return f'<p class="cmp-note" role="status">{escape(text)}</p>'


def voted_html(vote: CastVote, labels: Sequence[str]) -> str:
    """A vote that was cast, with the models' names from left to right, and whether it is kept."""
    match vote.outcome:
        case "preferred":
            text = f"You chose {LETTERS[vote.preferred or 0]}: <b>{escape(labels[vote.preferred or 0])}</b>."
        case "tie":
            text = "You voted for a tie."
        case "both_bad":
            text = "You voted against all of them." if len(labels) > MIN_MODELS else "You voted against both."
    kept = f'<span class="cmp-unkept">Not kept. {escape(vote.problem)}</span>' if vote.problem else "The vote is kept."
    return f"<p>{text} {kept}</p>"


def panel_html(summary: VoteSummary) -> str:
    """The counts of all votes, and each pair's."""
    if summary.votes == 0 and summary.corrections == 0:
        return '<p class="cmp-empty">No votes yet. Ask a question with Blind on, then vote.</p>'
    pairs = "".join(map(_pair_html, summary.pairs[:MAX_PAIRS]))
    more = len(summary.pairs) - MAX_PAIRS
    rest = f'<p class="cmp-note">And {count_of(more, "pair")} more.</p>' if more > 0 else ""
    open_votes = summary.votes - summary.blind_votes
    note = f" · {open_votes:,} with names shown, not in the win rates" if open_votes else ""
    return (
        f"{pairs}{rest}"
        f'<p class="cmp-note">{count_of(summary.votes, "vote")}{note} · '
        f"{count_of(summary.corrections, 'correction')}. Save them as rows to train on:</p>"
    )


def _pair_html(pair: PairSummary) -> str:
    """One pair, seen from the model that leads."""
    (first, second), rate, (low, high) = pair.models, pair.win_rate, pair.interval
    wins, losses = pair.wins, pair.losses
    if rate is not None and rate < 0.5:
        first, second, rate, low, high = second, first, 1 - rate, 1 - high, 1 - low
        wins, losses = losses, wins
    shown = "–" if rate is None else f"{rate:.0%}"
    counts = [f"{wins} : {losses}", count_of(pair.ties, "tie") if pair.ties else "",
              f"{pair.both_bad} both bad" if pair.both_bad else ""]  # fmt: skip
    return (
        '<div class="cmp-pair">'
        f'<div class="cmp-pair-names"><strong>{_name(first)}</strong><span>against {_name(second)}</span>'
        f'<b class="cmp-rate">{shown}</b></div>'
        f"{_bar(rate, low, high)}"
        f"<p>{' · '.join(filter(None, counts))} · 95 % interval {low:.0%} to {high:.0%}</p>"
        f'<p class="cmp-verdict">{verdict(pair)}</p></div>'
    )


def verdict(pair: PairSummary) -> str:
    """Whether the votes settle which model is preferred, or how many more would."""
    if pair.settled:
        leader = pair.models[0] if (pair.win_rate or 0) > 0.5 else pair.models[1]
        return f"Settled: {_name(leader)} is preferred."
    if pair.votes_to_settle is None:
        return "Even so far." if pair.wins + pair.losses else "Only ties so far."
    return f"Not settled. If it goes on like this, about {count_of(pair.votes_to_settle, 'more vote')} would settle it."


def _bar(rate: float | None, low: float, high: float) -> str:
    """The interval as a band on the scale from 0 to 100 %, with the rate as a mark. The text says the same."""
    mark = f'<i class="cmp-bar-mark" style="left:{rate:.1%}"></i>' if rate is not None else ""
    band = f'<i class="cmp-bar-band" style="left:{low:.1%};width:{high - low:.1%}"></i>'
    return f'<div class="cmp-bar" aria-hidden="true"><i class="cmp-bar-half"></i>{band}{mark}</div>'


def _name(contestant: ContestantOfPair) -> str:
    version = f" ({escape(contestant.version)})" if contestant.version else ""
    return f"{escape(contestant.model)}{version}"
