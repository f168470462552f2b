"""VoteBook: all votes and corrections of the store, their counts, and their export as rows to train on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

from sqlalchemy import func, select

from serve_apps.platform_app.context import Caller
from serve_apps.platform_app.store.object_ids import CORRECTION, VOTE
from serve_apps.platform_app.votes.records import Records
from serve_apps.platform_app.votes.tables import CORRECTIONS, VOTES
from tuneyard.api.votes.pair_tallies import Ballot, Contestant, ballot_of, summarize_pairs
from tuneyard.api.votes.training_rows import corrected_chat, preference_rows
from tuneyard.api.wire.platform_api.votes import Correction, Vote, VoteSummary
from tuneyard.storage.sql.database import SqlDatabase


class VoteBook:
    """Votes and corrections. `votes` and `corrections` wait for the database: call their methods by `database.run`."""

    def __init__(self, database: SqlDatabase) -> None:
        self.database = database
        self.votes = Records(database, VOTES, Vote, VOTE, _vote_columns)
        self.corrections = Records(database, CORRECTIONS, Correction, CORRECTION, lambda _: {})

    def summarize(self, caller: Caller) -> VoteSummary:
        """The counts of the caller's votes; administrators' are of all. Waits for the database."""
        t = VOTES.c
        grouped = select(
            t.is_blind, t.contestants, t.outcome, t.preferred, func.count().label("votes"),
            func.sum(t.preference_rows).label("rows"),
        ).group_by(t.is_blind, t.contestants, t.outcome, t.preferred)  # fmt: skip
        if not caller.is_admin:
            grouped = grouped.where(t.owner == caller.owner)
        with self.database.reading() as connection:
            groups = list(connection.execute(grouped))
        blind = [group for group in groups if group.is_blind]
        ballots = [
            Ballot(_contestants(group.contestants), group.outcome, group.preferred, group.votes) for group in blind
        ]
        return VoteSummary(
            votes=sum(group.votes for group in groups),
            blind_votes=sum(group.votes for group in blind),
            preference_rows=int(sum(group.rows for group in groups)),
            corrections=self.corrections.count(caller),
            pairs=summarize_pairs(ballots),
        )

    async def export(self, caller: Caller, form: Literal["preferences", "corrections"]) -> AsyncIterator[bytes]:
        """The rows as lines of JSON, oldest first."""
        after: str | None = ""
        while after is not None:
            if form == "preferences":
                votes, after = await self.database.run(self.votes.export_page, caller, after)
                rows = [row for vote in votes for row in preference_rows(vote)]
            else:
                corrections, after = await self.database.run(self.corrections.export_page, caller, after)
                rows = [corrected_chat(correction) for correction in corrections]
            yield b"".join(_lines(rows))


def _vote_columns(vote: Vote) -> dict[str, Any]:
    contestants = [[contestant.model, contestant.version] for contestant in ballot_of(vote).contestants]
    return {
        "is_blind": vote.blind,
        "contestants": json.dumps(contestants),
        "outcome": vote.outcome,
        "preferred": vote.preferred,
        "preference_rows": len(preference_rows(vote)),
    }


def _contestants(text: str) -> list[Contestant]:
    return [Contestant(model, version) for model, version in json.loads(text)]


def _lines(rows: list[dict[str, Any]]) -> Iterator[bytes]:
    return (json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
