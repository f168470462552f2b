"""Reconciler: the process that does what clients have asked for; one at a time works, whichever holds the lease."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from serve_apps.platform_app.part import Part
from serve_apps.platform_app.retry_delay import retry_delay_s
from serve_apps.platform_app.store.lease import LEASE_S, RENEWAL_S, Lease
from tuneyard.core.errors import StoreUnavailableError
from tuneyard.storage.sql.database import SqlDatabase

STEP_INTERVAL_S = 1.0
"""Seconds between two steps of a part."""

MAX_DELAY_S = 60.0
"""The longest pause before a step that failed is tried again."""

STOP_MARGIN_S = 5.0
"""The work ends so long before the lease does: what runs needs a moment to end."""

logger = logging.getLogger(__name__)


class Reconciler:
    """Runs the parts' steps while it holds `lease`. `now` gives Unix time in seconds, for the parts."""

    def __init__(
        self,
        parts: Sequence[Part],
        database: SqlDatabase,
        lease: Lease,
        *,
        step_interval_s: float = STEP_INTERVAL_S,
        renewal_s: float = RENEWAL_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._parts = parts
        self._database = database
        self._lease = lease
        self._step_interval_s = step_interval_s
        self._renewal_s = renewal_s
        self._now = now
        self.is_working = False
        """Whether this process holds the lease now."""

    async def run(self) -> None:
        """Works until it is cancelled; then it ends what runs, and gives the lease back."""
        try:
            while True:
                if await self._renew():
                    await self._work()
                await asyncio.sleep(self._renewal_s)
        finally:
            await asyncio.shield(self._release())

    async def _work(self) -> None:
        """Runs all parts until the lease is lost."""
        logger.info("this process works now: %s", ", ".join(part.name for part in self._parts))
        self.is_working = True
        renewed_at = time.monotonic()
        tasks = [asyncio.create_task(self._repeat(part), name=part.name) for part in self._parts]
        try:
            while time.monotonic() - renewed_at < LEASE_S - STOP_MARGIN_S:
                await asyncio.sleep(self._renewal_s)
                started_at = time.monotonic()
                is_held = await self._renew()
                if is_held is False:
                    logger.warning("another process has taken the lease over")
                    return
                renewed_at = started_at if is_held else renewed_at
            logger.warning("the lease could not be renewed; the work stops")
        finally:
            self.is_working = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for part in self._parts:
                await part.close()

    async def _repeat(self, part: Part) -> None:
        failures, longest_s = 0, MAX_DELAY_S
        while True:
            try:
                await part.reconcile(self._now())
                failures = 0
            except StoreUnavailableError as e:
                # Nothing is wrong with the step: it goes on soon after the lease can be renewed again.
                failures, longest_s = failures + 1, self._renewal_s
                logger.warning("%s: %s", part.name, e)
            except Exception:
                failures, longest_s = failures + 1, MAX_DELAY_S
                logger.exception("%s: a step failed; it is tried again", part.name)
            await asyncio.sleep(retry_delay_s(self._step_interval_s, failures, longest_s))

    async def _renew(self) -> bool | None:
        """Whether this process holds the lease; None if the store does not answer."""
        try:
            return await self._database.run(self._lease.take)
        except StoreUnavailableError:
            return None

    async def _release(self) -> None:
        try:
            await self._database.run(self._lease.release)
        except StoreUnavailableError as e:
            logger.warning("the lease was not given back, and ends by itself: %s", e)
