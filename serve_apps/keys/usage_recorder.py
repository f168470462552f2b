"""UsageRecorder: collects what keys use in this process, and writes it to the ledger in batches."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import uuid
from collections.abc import AsyncIterator, Callable

from serve_apps.keys.account import utc_now
from serve_apps.keys.metrics import KeyMetrics
from tuneyard.api.api_keys import ApiKey
from tuneyard.api.usage_counts import UsageCounts
from tuneyard.api.usage_ledger import UsageLedger, UsageRow, month_begin
from tuneyard.core.errors import TuneyardError

logger = logging.getLogger(__name__)

_Batch = dict[str, dict[tuple[datetime.date, str], UsageCounts]]
"""Counts by the key's id, day and model."""


class UsageRecorder:
    """Counts in memory; `running` writes every `interval_s` seconds, from a thread, and once more at its end.

    A process that is killed loses what it counted since its last write. While the ledger cannot be written, the counts
    stay in memory and requests go on. All methods belong to one event loop; `now` gives the time in UTC.
    """

    def __init__(
        self,
        ledger: UsageLedger,
        interval_s: float,
        metrics: KeyMetrics,
        now: Callable[[], datetime.datetime] = utc_now,
    ) -> None:
        self._ledger = ledger
        self._interval_s = interval_s
        self._metrics = metrics
        self._now = now
        self._pending: _Batch = {}
        self._writing: _Batch = {}
        self._written: _Batch = {}
        """Written, and not part of `_month_totals` yet."""
        self._batch_id = ""
        self._names: dict[str, str] = {}
        self._month = month_begin(now().date())
        self._month_totals: dict[str, UsageCounts] = {}
        self._can_write = True

    def add(self, key: ApiKey, model: str, counts: UsageCounts) -> None:
        """Counts for the key. `model` is "" for a request that was refused before its model was known."""
        self._names[key.id] = key.name
        _add(self._pending, key.id, (self._now().date(), model), counts)

    def of_month(self, key: ApiKey) -> UsageCounts:
        """What the key used this month: in this process until now, elsewhere as of the last write."""
        month = month_begin(self._now().date())
        total = self._month_totals.get(key.id, UsageCounts()) if month == self._month else UsageCounts()
        for batch in (self._written, self._writing, self._pending):
            for (day, _), counts in batch.get(key.id, {}).items():
                if day >= month:
                    total += counts
        return total

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Reads the month's usage, then writes in the background while the context is open."""
        await self.write()
        writer = asyncio.create_task(self._keep_writing())
        try:
            yield
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            await self.write()
            if self._pending:  # what had failed before was written first
                await self.write()
            self._ledger.close()

    async def write(self) -> None:
        """Writes what is pending, and reads the month's usage of all replicas. After an error it stays pending."""
        if not self._writing:
            # The ledger takes a batch once: after an error it may hold the batch already.
            self._batch_id = uuid.uuid4().hex
            self._writing, self._pending = self._pending, {}
        month = month_begin(self._now().date())
        try:
            if rows := self._rows(self._writing):
                await self._ledger.run(self._ledger.add, self._batch_id, rows)
                for key_id, by_place in self._writing.items():
                    for place, counts in by_place.items():
                        _add(self._written, key_id, place, counts)
                self._writing = {}
            totals = await self._ledger.run(self._ledger.month_totals, month)
        except TuneyardError as e:
            self._metrics.usage_failures.inc()
            if self._can_write:
                logger.warning("the usage of API keys stays in memory until it can be written: %s", e)
            self._can_write = False
            return
        if not self._can_write:
            logger.warning("the usage of API keys is written again")
        self._can_write = True
        self._month, self._month_totals, self._written = month, totals, {}

    def _rows(self, batch: _Batch) -> list[UsageRow]:
        return [
            UsageRow(day, key_id, self._names[key_id], model, counts)
            for key_id, by_place in batch.items()
            for (day, model), counts in by_place.items()
        ]

    async def _keep_writing(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self.write()


def _add(batch: _Batch, key_id: str, place: tuple[datetime.date, str], counts: UsageCounts) -> None:
    by_place = batch.setdefault(key_id, {})
    by_place[place] = by_place.get(place, UsageCounts()) + counts
