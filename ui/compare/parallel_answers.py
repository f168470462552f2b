"""Several answers at once: all sides of a round are filled while they stream, and stopped together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial

from tuneyard.core.errors import TuneyardError
from ui.compare.comparison import Round, Side
from ui.endpoints.chat_events import ChatEvent

REDRAW_INTERVAL_S = 0.08
"""Seconds between two redraws, whatever the token rate."""

Stream = Callable[[Side], AsyncIterator[ChatEvent]]
"""Opens the stream of a side's answer."""


@dataclass
class _Running:
    shown: Round
    tasks: list[asyncio.Task[None]]
    is_watched: bool = False


class ParallelAnswers:
    """Fills rounds with the events of their streams; one round at a time for each session. Use it on one event loop."""

    def __init__(self) -> None:
        self._running: dict[str, _Running] = {}

    def start(self, session: str, shown: Round, stream: Stream) -> None:
        """Starts to fill all sides of the round. Stops a round of the same session that still runs.

        A side that fails keeps its text and gets the error; the others go on.
        """
        self.stop(session)
        running = _Running(shown, [asyncio.create_task(_fill(side, stream)) for side in shown.sides])
        self._running[session] = running
        for side, task in zip(shown.sides, running.tasks, strict=True):
            task.add_done_callback(partial(self._finish, session, running, side))

    def is_running(self, session: str) -> bool:
        """Whether answers of the session still grow."""
        return session in self._running

    async def watch(self, session: str) -> AsyncGenerator[Round, None]:
        """Yields the session's round each time a side has changed; all sides are final when the iterator ends.

        Yields nothing if no round runs or another iterator watches it. Closing the iterator closes the HTTP streams.
        """
        running = self._running.get(session)
        if running is None or running.is_watched:
            return
        running.is_watched = True
        try:
            seen = None
            while any(not task.done() for task in running.tasks):
                await asyncio.wait(running.tasks, timeout=REDRAW_INTERVAL_S)
                state = [(side.size, side.is_live) for side in running.shown.sides]
                if state != seen:
                    seen = state
                    yield running.shown
        finally:
            _cancel(running)

    def stop(self, session: str) -> None:
        """Stops the session's answers, if any, and keeps the text so far."""
        if running := self._running.get(session):
            _cancel(running)

    def stop_round(self, shown: Round) -> None:
        """Stops the answers of a round, whichever session runs them."""
        for running in list(self._running.values()):
            if running.shown is shown:
                _cancel(running)
        for side in shown.sides:
            _end(side)

    def _finish(self, session: str, running: _Running, side: Side, _: asyncio.Task[None]) -> None:
        _end(side)  # a task that is cancelled before its first step never runs
        if self._running.get(session) is running and all(task.done() for task in running.tasks):
            del self._running[session]


def _cancel(running: _Running) -> None:
    for task in running.tasks:
        task.cancel()


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
