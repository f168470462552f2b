"""LoopTurns: expensive steps of several requests run in different turns of the event loop."""

from __future__ import annotations

import asyncio


class LoopTurns:
    """Lets one request at a time go on, each in a turn of the loop of its own.

    To check a large body takes up to 0.05 s. If ten such requests went on in the same turn, everything else, such as a
    health check, would wait for all of them.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def wait(self) -> None:
        """Returns in a turn of the loop in which no other caller returns."""
        async with self._lock:
            await asyncio.sleep(0)
