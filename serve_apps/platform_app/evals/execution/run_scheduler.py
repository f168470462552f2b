"""RunScheduler: which runs are executed now. Every key has its turn."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from serve_apps.platform_app.evals.execution.run_progress import ActiveRun

CONCURRENT_RUNS = 4
"""Runs that are executed at the same time, over all keys."""

logger = logging.getLogger(__name__)


class RunScheduler:
    """Executes up to CONCURRENT_RUNS runs, each in a task. An execution that raises is begun again at a later step."""

    def __init__(self, execute: Callable[[ActiveRun], Awaitable[None]]) -> None:
        self._execute = execute
        self._tasks: dict[str, asyncio.Future[None]] = {}

    async def step(self, active: Sequence[ActiveRun]) -> None:
        """Ends the executions of runs that are no longer `active`, and begins those of others. Oldest first."""
        for run_id in [run_id for run_id, task in self._tasks.items() if task.done()]:
            self._forget(run_id)
        wanted = {run.id for run in active}
        await self._cancel([run_id for run_id in self._tasks if run_id not in wanted])
        running = [run for run in active if run.id in self._tasks]
        for run in in_turn(active, running)[: CONCURRENT_RUNS - len(running)]:
            self._tasks[run.id] = asyncio.ensure_future(self._execute(run))

    async def close(self) -> None:
        """Ends all executions. Another process goes on from the store."""
        await self._cancel(list(self._tasks))

    async def _cancel(self, run_ids: Sequence[str]) -> None:
        for run_id in run_ids:
            self._tasks[run_id].cancel()
        await asyncio.gather(*(self._tasks[run_id] for run_id in run_ids), return_exceptions=True)
        for run_id in run_ids:
            self._forget(run_id)

    def _forget(self, run_id: str) -> None:
        task = self._tasks.pop(run_id)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.warning("the eval run %s goes on later: %s", run_id, error)


def in_turn(active: Sequence[ActiveRun], running: Sequence[ActiveRun]) -> list[ActiveRun]:
    """The runs that wait, in the order in which they begin: of the owner with the fewest running ones first."""
    waiting: dict[str, deque[ActiveRun]] = {}
    for run in active:
        if run not in running:
            waiting.setdefault(run.owner, deque()).append(run)
    places = {owner: sum(run.owner == owner for run in running) for owner in waiting}
    order: list[ActiveRun] = []
    while waiting:
        owner = min(waiting, key=lambda name: (places[name], waiting[name][0].id))
        order.append(waiting[owner].popleft())
        places[owner] += 1
        if not waiting[owner]:
            del waiting[owner]
    return order
