"""Requests and answers of /v1/votes: people's votes between answers, and answers that they corrected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from tuneyard.api.wire.base import Items, RequestModel, WireModel
from tuneyard.api.wire.platform_api.lists import PageQuery
from tuneyard.api.wire.platform_api.metadata import Metadata
from tuneyard.chats.rules.validation import find_order_problem
from tuneyard.core.errors import RequestError

Outcome = Literal["preferred", "tie", "both_bad"]

MAX_ANSWERS = 4
MAX_TEXT = 1_000_000
"""Characters of a message or an answer."""
MAX_REASON = 2_000
MAX_NAME = 200


class VoteMessage(RequestModel):
    """One message of the question. Text only: votes become training rows, where calls of tools need their tools."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str = Field(max_length=MAX_TEXT)


class VoteInput(RequestModel):
    """The conversation that was answered; the last message is the user's."""

    messages: Items[VoteMessage]

    def check_order(self, param: str) -> None:
        """Raises RequestError if the messages and an answer would not be a chat to train on."""
        problem = find_order_problem([*(message.role for message in self.messages), "assistant"])
        if problem is not None:
            raise RequestError(f"{param}.messages: with an answer, {problem}.", param=f"{param}.messages")
        for position, message in enumerate(self.messages):
            if message.role in ("user", "assistant") and not message.content.strip():
                where = f"{param}.messages.{position}.content"
                raise RequestError(f"{where} has no text.", param=where)


class Origin(RequestModel):
    """Who answered: the model's name, and what the headers of its answer said about it."""

    model: str = Field(min_length=1, max_length=MAX_NAME)
    version: str | None = Field(default=None, max_length=MAX_NAME)
    """`X-Tuneyard-Model-Version`."""
    run: str | None = Field(default=None, max_length=MAX_NAME)
    """`X-Tuneyard-Run`."""
    dataset: str | None = Field(default=None, max_length=MAX_NAME)
    """`X-Tuneyard-Dataset`."""


class VotedAnswer(Origin):
    """One of the answers, in the order in which the person saw them. An empty `output` is an answer without text."""

    output: str = Field(max_length=MAX_TEXT)
    input: VoteInput | None = None
    """What this model was given, if that differs from the vote's `input`: in a conversation that each model continued
    from its own answers."""


class VoteRequest(RequestModel):
    """POST /v1/votes: which of two to four answers a person prefers."""

    input: VoteInput
    answers: Items[VotedAnswer] = Field(min_length=2, max_length=MAX_ANSWERS)
    outcome: Outcome
    """`both_bad` of three or four answers: all are bad."""
    preferred: int | None = Field(default=None, ge=0)
    """Index in `answers`, exactly if `outcome` is "preferred"."""
    reason: str | None = Field(default=None, max_length=MAX_REASON)
    blind: bool = False
    """Whether the person did not know which model gave which answer. Win rates count only such votes."""
    metadata: Metadata | None = None

    def check(self) -> None:
        """See WireModel."""
        self.input.check_order("input")
        for i, answer in enumerate(self.answers):
            if answer.input is not None:
                answer.input.check_order(f"answers.{i}.input")
        if (self.preferred is not None) != (self.outcome == "preferred"):
            raise RequestError(
                f"'preferred' is {self.preferred} with outcome {self.outcome!r}: it is the index of the preferred "
                "answer, and belongs to outcome 'preferred' only.",
                param="preferred",
            )
        if self.preferred is not None and self.preferred >= len(self.answers):
            raise RequestError(
                f"'preferred' is {self.preferred}, and there are {len(self.answers)} answers, counted from 0.",
                param="preferred",
            )
        if self.preferred is not None and not self.answers[self.preferred].output.strip():
            raise RequestError(f"answers.{self.preferred} is preferred and has no text.", param="preferred")


class Vote(VoteRequest):
    """A vote that is kept."""

    id: str
    object: Literal["vote"] = "vote"
    created_at: int
    """Seconds since 1970."""


class CorrectionRequest(Origin):
    """POST /v1/votes/corrections: an answer as it should have been."""

    input: VoteInput
    output: str = Field(max_length=MAX_TEXT)
    """What the model had answered."""
    corrected: str = Field(max_length=MAX_TEXT)
    reason: str | None = Field(default=None, max_length=MAX_REASON)
    metadata: Metadata | None = None

    def check(self) -> None:
        """See WireModel."""
        self.input.check_order("input")
        if not self.corrected.strip():
            raise RequestError("'corrected' has no text.", param="corrected")


class Correction(CorrectionRequest):
    """A correction that is kept."""

    id: str
    object: Literal["vote.correction"] = "vote.correction"
    created_at: int
    """Seconds since 1970."""


class DeletedVote(WireModel):
    """A vote or a correction that was deleted."""

    id: str
    object: Literal["vote.deleted", "vote.correction.deleted"]
    deleted: Literal[True] = True


class ContestantOfPair(WireModel):
    """A model of a pair. `version` is null where the answers named none."""

    model: str
    version: str | None


class PairSummary(WireModel):
    """The blind votes between two models."""

    models: Sequence[ContestantOfPair]
    """Two; wins, losses and the win rate are those of the first."""
    wins: int
    losses: int
    ties: int
    both_bad: int
    win_rate: float | None
    """Wins among wins and losses, 0 to 1; null without any."""
    interval: tuple[float, float]
    """95 % interval of the win rate that holds after every vote, however often one looks."""
    settled: bool
    """Whether the interval excludes one half."""
    votes_to_settle: int | None
    """More votes until it is settled, if ties and wins stay as frequent as they were; null if that cannot be said."""


class VoteSummary(WireModel):
    """GET /v1/votes/summary."""

    object: Literal["vote.summary"] = "vote.summary"
    votes: int
    """All votes."""
    blind_votes: int
    """The votes that `pairs` counts."""
    preference_rows: int
    """Rows that the export of preferences has."""
    corrections: int
    pairs: list[PairSummary]
    """Those with the most votes first."""


class VoteQuery(PageQuery):
    """Query parameters of GET /v1/votes and GET /v1/votes/corrections."""


class ExportQuery(WireModel):
    """Query parameters of GET /v1/votes/export."""

    form: Literal["preferences", "corrections"]
    """`preferences`: rows for DPO, from votes that prefer an answer. `corrections`: chats with corrected answers."""
