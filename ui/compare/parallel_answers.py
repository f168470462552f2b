"""Several answers at once: all sides of a round are filled while they stream, and stopped together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import NamedTuple

from tuneyard.core.errors import TuneyardError
from ui.compare.comparison import Round, Side
from ui.endpoints.chat_events import ChatEvent

REDRAW_INTERVAL_S = 0.08
"""Seconds between two redraws, whatever the token rate."""

Stream = Callable[[Side], AsyncIterator[ChatEvent]]
"""Opens the stream of a side's answer."""


class _Running(NamedTuple):
    shown: Round
    tasks: list[asyncio.Task[None]]


class ParallelAnswers:
    """Fills rounds with the events of their streams; one round at a time for each session."""

    def __init__(self) -> None:
        self._running: dict[str, _Running] = {}

    async def run(self, session: str, shown: Round, stream: Stream) -> AsyncGenerator[None, None]:
        """Yields each time a side has changed; all sides are final when the iterator ends.

        One that fails keeps its text and gets the error; the others go on. Stops a round of the same session that still
        runs. Closing the iterator, or `stop`, closes the HTTP streams.
        """
        self.stop(session)
        tasks = [asyncio.create_task(_fill(side, stream)) for side in shown.sides]
        running = self._running[session] = _Running(shown, tasks)
        try:
            seen = None
            while any(not task.done() for task in tasks):
                await asyncio.wait(tasks, timeout=REDRAW_INTERVAL_S)
                state = [(side.size, side.is_live) for side in shown.sides]
                if state != seen:
                    seen = state
                    yield
        finally:
            for task in tasks:
                task.cancel()
            for side in shown.sides:
                _end(side)
            if self._running.get(session) is running:
                del self._running[session]

    def stop(self, session: str) -> None:
        """Stops the session's answers, if any, and keeps the text so far. Call it on the event loop."""
        if running := self._running.get(session):
            for task in running.tasks:
                task.cancel()

    def stop_round(self, shown: Round) -> None:
        """Stops the answers of a round, whichever session runs them."""
        for session, running in list(self._running.items()):
            if running.shown is shown:
                self.stop(session)
        for side in shown.sides:
            _end(side)


async def _fill(side: Side, stream: Stream) -> None:
    """Reads the stream to its end; a cancelled side keeps its text and is marked as stopped."""
    try:
        async for event in stream(side):
            side.add(event)
        side.is_live = False
    except TuneyardError as e:
        side.error = str(e)
        side.is_live = False
    except asyncio.CancelledError:
        _end(side)
    except Exception as e:
        logging.getLogger(__name__).exception("an answer failed")
        side.error = f"The page failed: {type(e).__name__}. Its log has the details; ask again."
        side.is_live = False


def _end(side: Side) -> None:
    """Marks a side that still runs as stopped."""
    if side.is_live:
        side.is_live, side.is_stopped = False, True
