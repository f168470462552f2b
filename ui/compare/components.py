"""The components of the Compare page that handlers read and change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class CompareComponents(NamedTuple):
    """Gradio's components, by what they are for."""

    token: Any
    """The token of the comparison that the browser tab shows; see ComparisonMemory."""
    models: Any
    is_blind: Any
    problem: Any
    intro: Any
    history: Any
    """The rounds before the last one."""
    board: Any
    """The last round."""
    vote_bar: Any
    better: Sequence[Any]
    """One button for each side."""
    both_bad: Any
    reason: Any
    voted_row: Any
    voted: Any
    undo: Any
    question: Any
    win_rates: Any
    download: Any
    """A file for the browser to save: its name and its text."""
    system_prompt: Any
    temperature: Any
    max_tokens: Any
    effort: Any

    @property
    def given(self) -> set[Any]:
        """What handlers read."""
        settings = {self.system_prompt, self.temperature, self.max_tokens, self.effort}
        return {self.token, self.models, self.is_blind, self.reason, self.question, *settings}

    @property
    def changed(self) -> set[Any]:
        """What handlers change."""
        foot = {self.vote_bar, *self.better, self.both_bad, self.reason, self.voted_row, self.voted, self.undo}
        board = {self.intro, self.history, self.board, self.question, self.win_rates}
        return {self.token, self.models, self.problem, *foot, *board}
