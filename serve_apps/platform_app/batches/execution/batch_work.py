"""BatchWork: which batches are worked on at the same time, in turn between their owners."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from serve_apps.platform_app.batches.batch_record import BatchRecord
from serve_apps.platform_app.batches.execution.batch_run import BatchRun, BatchServices
from serve_apps.platform_app.batches.states import Event
from serve_apps.platform_app.retry_delay import retry_delay_s
from tuneyard.api.wire.platform_api.batches import BatchStatus
from tuneyard.core.errors import TuneyardError

FIRST_DELAY_S, MAX_DELAY_S = 2.0, 60.0
"""Seconds until a batch whose work failed is worked on again: at first, and after several failures."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Running:
    task: asyncio.Task[None]
    status: BatchStatus
    """The batch's status when its work began or was seen last."""


class BatchWork:
    """Feed it all unfinished batches every second or so."""

    def __init__(self, services: BatchServices) -> None:
        self._services = services
        self._store = services.store
        self._running: dict[str, _Running] = {}
        self._failures: Counter[str] = Counter()
        self._retry_at: dict[str, float] = {}

    async def step(self, now: float) -> None:
        """Ends work that has become pointless, and begins what has room. Raises StoreUnavailableError."""
        batches = await self._store.database.run(self._store.unfinished)
        self._forget_ended(now)
        for index, batch in enumerate(batches):
            if batch.status == "in_progress" and now >= batch.expires_at:
                batches[index] = await self._store.database.run(self._store.record, batch.id, Event.EXPIRE)
        for batch in batches:
            await self._interrupt(batch)
        waiting = [b for b in batches if b.id not in self._running and self._retry_at.get(b.id, now) <= now]
        for batch in choose(waiting, [b for b in batches if b.id in self._running], self._services.limits.max_running):
            task = asyncio.create_task(BatchRun(self._services, batch).work(), name=batch.id)
            self._running[batch.id] = _Running(task, batch.status)

    async def close(self) -> None:
        """Ends all work. What was answered is stored."""
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._running.clear()

    async def _interrupt(self, batch: BatchRecord) -> None:
        """Ends work whose requests are no longer wanted; the next work on the batch gives them their errors."""
        running = self._running.get(batch.id)
        is_unwanted = batch.status == "cancelling" or (batch.status == "finalizing" and batch.is_expired)
        if running is None or not is_unwanted or running.status == batch.status:
            return
        running.task.cancel()
        await asyncio.gather(running.task, return_exceptions=True)
        del self._running[batch.id]

    def _forget_ended(self, now: float) -> None:
        for batch_id, running in list(self._running.items()):
            if not running.task.done():
                continue
            del self._running[batch_id]
            error = None if running.task.cancelled() else running.task.exception()
            if error is None:
                self._failures.pop(batch_id, None)
                self._retry_at.pop(batch_id, None)
                continue
            self._failures[batch_id] += 1
            delay = retry_delay_s(FIRST_DELAY_S, self._failures[batch_id] - 1, MAX_DELAY_S)
            self._retry_at[batch_id] = now + delay
            _log(batch_id, error, delay)


def choose(waiting: Sequence[BatchRecord], running: Iterable[BatchRecord], max_running: int) -> list[BatchRecord]:
    """The waiting batches to begin now. Owners with the fewest running batches come first, then the oldest batches."""
    counts = Counter(batch.owner for batch in running)
    left, chosen = list(waiting), []
    while left and counts.total() < max_running:
        following = min(left, key=lambda batch: (counts[batch.owner], batch.id))
        left.remove(following)
        chosen.append(following)
        counts[following.owner] += 1
    return chosen


def _log(batch_id: str, error: BaseException, delay_s: float) -> None:
    """A message for an error that says what is wrong by itself; a traceback for any other."""
    errors = error.exceptions if isinstance(error, BaseExceptionGroup) else (error,)
    if all(isinstance(e, TuneyardError) for e in errors):
        logger.warning("%s is worked on again in %g s: %s", batch_id, delay_s, errors[0])
    else:
        logger.error("%s is worked on again in %g s", batch_id, delay_s, exc_info=error)
