"""The answers of a comparison as HTML: side by side, with names or letters, and the differences marked.

Clicks are handled by board.js: a button's `data-compare` is what to do, `data-side` on which side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape

from ui.compare.answer_text import AnswerText
from ui.compare.comparison import LETTERS, CastVote, Round, Side
from ui.compare.differences import Differences, find_differences

FINISH_NOTES = {"stop": None, "length": "cut at the token limit", "content_filter": "cut by the content filter"}
OUTCOMES = {"tie": "tie", "both_bad": "both bad"}


@dataclass(frozen=True, slots=True)
class SideView:
    """What is shown of one side now."""

    side: Side
    letter: str
    reasoning: str
    answer: str


def board_html(shown: Round, number: int, *, is_last: bool) -> str:
    """A question, the conversation's `number`th, and its answers. Names are in it only if the round shows them."""
    views = _views(shown)
    differences = _differences(views) if not shown.is_live and len(views) > 1 else []
    articles = [
        _side_html(shown, view, marks, number, is_last=is_last)
        for view, marks in zip(views, _marks(views, differences), strict=True)
    ]
    busy = "true" if shown.is_live else "false"
    return (
        f'<section class="cmp-round" aria-busy="{busy}">'
        f'<div class="ty-question" dir="auto">{escape(shown.question)}</div>'
        f'<div class="cmp-sides cmp-{len(views)}" role="group" aria-label="Answers side by side" tabindex="0">'
        f"{''.join(articles)}</div>{_summary_html(differences)}</section>"
    )


def _views(shown: Round) -> list[SideView]:
    return [
        SideView(side, letter, side.reasoning[:size], side.answer[: max(0, size - len(side.reasoning))])
        for side, letter, size in zip(shown.sides, LETTERS, shown.visible_sizes(), strict=False)
    ]


def _side_html(shown: Round, view: SideView, marked: frozenset[int], number: int, *, is_last: bool) -> str:
    side = view.side
    vote = shown.vote
    is_preferred = vote is not None and vote.preferred == shown.sides.index(side)
    return (
        f'<article class="cmp-side{" cmp-preferred" if is_preferred else ""}" aria-label="Answer {view.letter}">'
        f"<header>{_title(shown, view)}{_badge(vote, is_preferred)}</header>"
        f"{_reasoning(view, number)}"
        f"{_answer(view, marked)}"
        f"{_error(shown, side)}"
        f"{_tools(shown, view, is_last=is_last)}"
        "</article>"
    )


def _title(shown: Round, view: SideView) -> str:
    letter = f'<span class="cmp-letter">{view.letter}</span>'
    if not shown.shows_names:
        return f'{letter}<span class="cmp-name cmp-hidden">name hidden</span>'
    version = view.side.lineage.version
    detail = f'<span class="cmp-version">{escape(version)}</span>' if version else ""
    return f'{letter}<span class="cmp-name">{escape(view.side.label)}</span>{detail}'


def _badge(vote: CastVote | None, is_preferred: bool) -> str:
    text = "your choice" if is_preferred else OUTCOMES.get(vote.outcome, "") if vote is not None else ""
    return f'<span class="cmp-badge">{text}</span>' if text else ""


def _reasoning(view: SideView, number: int) -> str:
    if not view.reasoning:
        return ""
    # A duration is a name too, in a blind round: it is shown with the notes only.
    return (
        f'<details class="cmp-reasoning" data-keep="{number}{view.letter}"><summary>Reasoning</summary>'
        f'<div class="cmp-text">{_text(view.reasoning).html()}</div></details>'
    )


def _answer(view: SideView, marked: frozenset[int]) -> str:
    side = view.side
    if not side.is_live and side.corrected is not None:
        return f'<div class="cmp-text">{_text(side.corrected).html()}</div>'
    if view.answer:
        return f'<div class="cmp-text">{_text(view.answer).html(marked)}</div>'
    if side.is_live:
        dots = '<span class="ty-dots" aria-hidden="true"><i></i><i></i><i></i></span>'
        return f'<div class="ty-waiting" role="status">{dots}<span>Waiting for the answer</span></div>'
    return "" if side.error else '<p class="cmp-empty">No answer.</p>'


def _error(shown: Round, side: Side) -> str:
    """Why an answer failed. Messages name models and servers: while names are hidden, only that it failed."""
    if not side.error:
        return ""
    text = side.error if shown.shows_names else "This answer failed. The reason is shown with the names."
    return f'<div class="ty-error" role="alert">{escape(text)}</div>'


def _tools(shown: Round, view: SideView, *, is_last: bool) -> str:
    side = view.side
    if shown.is_live or not side.answer:
        return ""
    copy = f'<span class="cmp-source" hidden>{escape(side.text)}</span>{_icon("copy", view, "Copy answer")}'
    edit = _icon("correct", view, f"Edit answer {view.letter}: it becomes a row to train on") if is_last else ""
    notes = "".join(f"<span>{escape(note)}</span>" for note in _notes(shown, side))
    return f'<div class="ty-tools">{copy}{edit}<span class="ty-facts">{notes}</span></div>'


def _icon(act: str, view: SideView, label: str) -> str:
    return (
        f'<button type="button" class="ty-icon" data-compare="{act}" data-side="{LETTERS.index(view.letter)}" '
        f'title="{label}" aria-label="{label}"><i class="ty-i ty-i-{act}"></i></button>'
    )


def _notes(shown: Round, side: Side) -> list[str]:
    """What is known about an answer. Numbers of tokens and seconds could give a hidden name away."""
    notes = ["edited" if side.corrected is not None else None, "stopped" if side.is_stopped else None]
    if side.done is not None:
        notes.append(FINISH_NOTES.get(side.done.finish_reason, f"ended by {side.done.finish_reason}"))
        if shown.shows_names:
            done = side.done
            if side.reasoning and side.reasoning_s >= 0.1:
                notes.append(f"reasoning {side.reasoning_s:.1f} s")
            if done.completion_tokens is not None:
                notes.append(f"{done.completion_tokens:,} tokens")
            if done.tokens_per_s is not None:
                notes.append(f"{done.tokens_per_s:.1f} tokens/s")
            if done.first_token_s is not None:
                notes.append(f"first token after {done.first_token_s:.2f} s")
    return [note for note in notes if note]


def _differences(views: Sequence[SideView]) -> list[Differences]:
    """The differences of each other answer to the first; none if fewer than two have text."""
    if any(not view.side.text for view in views):
        return []
    first, *others = [view.side.text for view in views]
    return [_differences_of(first, other) for other in others]


def _marks(views: Sequence[SideView], differences: Sequence[Differences]) -> list[frozenset[int]]:
    """Words to mark on each side. Of several answers the first shows no marks: it is what the others differ from."""
    if not differences:
        return [frozenset()] * len(views)
    first = differences[0].left if len(differences) == 1 and differences[0].are_marked else frozenset[int]()
    return [first, *(found.right if found.are_marked else frozenset[int]() for found in differences)]


def _summary_html(differences: Sequence[Differences]) -> str:
    if not differences:
        return ""
    if len(differences) == 1:
        text = _wording(differences[0])
    else:
        text = "Differences to A. " + " · ".join(
            f"{letter}: {_wording(found)}" for letter, found in zip(LETTERS[1:], differences, strict=False)
        )
    return f'<p class="cmp-summary">{text}</p>'


def _wording(found: Differences) -> str:
    if found.share is None:
        return "too long to compare"
    if found.share == 1:
        return "the same words"
    words = f"{found.share:.0%} of the words are equal"
    return words if found.are_marked else f"{words}: too few to mark the others"


@lru_cache(maxsize=128)
def _text(markdown: str) -> AnswerText:
    return AnswerText(markdown)


@lru_cache(maxsize=128)
def _differences_of(left: str, right: str) -> Differences:
    return find_differences(_text(left).words, _text(right).words)
