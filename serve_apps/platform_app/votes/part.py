"""The votes' part of the application: routes only, nothing to reconcile."""

from __future__ import annotations

from fastapi import FastAPI

from serve_apps.keys.key_gate import KeyGate
from serve_apps.platform_app.context import PlatformContext
from serve_apps.platform_app.votes.routes import add_vote_routes
from serve_apps.platform_app.votes.vote_book import VoteBook


class VotesPart:
    """Votes and corrections; see Part."""

    name = "votes"

    def __init__(self, context: PlatformContext) -> None:
        self._context = context
        self._book = VoteBook(context.database)

    def add_routes(self, api: FastAPI, gate: KeyGate) -> None:  # noqa: ARG002  # the context has the same gate
        """See Part."""
        add_vote_routes(api, self._context, self._book)

    async def reconcile(self, now: float) -> None:
        """See Part. Nothing: a vote is complete when it is created."""

    async def close(self) -> None:
        """See Part."""
