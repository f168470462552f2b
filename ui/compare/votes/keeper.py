"""Where votes are kept: VoteKeeper, and the errors of its kinds."""

from __future__ import annotations

from typing import Literal, Protocol

from tuneyard.api.wire.platform_api.votes import Correction, CorrectionRequest, Vote, VoteRequest, VoteSummary
from tuneyard.core.errors import TuneyardError

ExportForm = Literal["preferences", "corrections"]


class VotesError(TuneyardError):
    """Votes cannot be kept or read. The message is for the person at the page."""


class VotesNotKeptError(VotesError):
    """No place for votes exists: no endpoint of the page keeps them, and the page has no file for them."""


class VoteKeeper(Protocol):
    """Keeps votes and corrections. `key` is the person's API key; None is the page's own.

    All methods raise VotesError if the place cannot be reached or refuses.
    """

    async def create_vote(self, vote: VoteRequest, idempotency_key: str, key: str | None) -> Vote:
        """Keeps a vote. One that is sent again with the same idempotency key is kept once."""

    async def create_correction(
        self, correction: CorrectionRequest, idempotency_key: str, key: str | None
    ) -> Correction:
        """Keeps a correction, as create_vote keeps a vote."""

    async def delete_vote(self, vote_id: str, key: str | None) -> None:
        """Deletes a vote. Raises VotesError if there is none with this id."""

    async def summarize(self, key: str | None) -> VoteSummary:
        """The counts of all votes that this key may see."""

    async def export(self, form: ExportForm, key: str | None) -> str:
        """All votes or corrections as rows to train on, in lines of JSON."""
