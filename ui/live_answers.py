"""Running answers, one per browser session: started, displayed at a steady pace, stopped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator

from tuneyard.core.errors import TuneyardError
from ui.chat_client import ChatClient, ChatRequest
from ui.transcript import Turn

REDRAW_INTERVAL_S = 0.08
"""Seconds between two redraws, whatever the token rate."""


class LiveAnswers:
    """Fills turns with the client's events; can stop the answer of a session."""

    def __init__(self, client: ChatClient) -> None:
        self._client = client
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self, session: str, turn: Turn, request: ChatRequest) -> AsyncGenerator[None, None]:
        """Yields each time the turn has changed; the turn is final when the iterator ends.

        Stops an answer of the same session that is still running. Closing the iterator, or `stop`, closes the HTTP
        stream.
        """
        self.stop(session)
        task = asyncio.create_task(self._fill(turn, request))
        self._tasks[session] = task
        shown = 0
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=REDRAW_INTERVAL_S)
                if turn.size != shown:
                    shown = turn.size
                    yield
            _finish_turn(turn, task)
        finally:
            task.cancel()
            if self._tasks.get(session) is task:
                del self._tasks[session]

    def stop(self, session: str) -> None:
        """Stops the session's running answer, if any, and keeps the text so far. Call it on the event loop."""
        if task := self._tasks.get(session):
            task.cancel()

    async def _fill(self, turn: Turn, request: ChatRequest) -> None:
        async for event in self._client.stream(request):
            turn.add(event)


def _finish_turn(turn: Turn, task: asyncio.Task[None]) -> None:
    turn.live = False
    if task.cancelled():
        turn.notes = ("stopped",)
    elif isinstance(error := task.exception(), TuneyardError):
        turn.error = str(error)
    elif error is not None:
        logging.getLogger(__name__).error("the answer failed", exc_info=error)
        turn.error = f"The page failed: {type(error).__name__}. Its log has the details; Retry asks again."
