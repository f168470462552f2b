"""LeaseKeeper: renews the leases of the responses that this process answers, and tells which of them were cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator

from serve_apps.api.responses.store import LEASE_S, ResponseStore
from tuneyard.core.errors import StoreUnavailableError

POLL_S = 0.5
"""How often the store is asked whether a response was cancelled, by any replica or the gateway."""

RENEWAL_S = LEASE_S / 4
"""How often leases are renewed."""

logger = logging.getLogger(__name__)


class LeaseKeeper:
    """One for all responses of a process: the store is asked once for all of them. Use it from one event loop."""

    def __init__(self, store: ResponseStore) -> None:
        self._store = store
        self._running: dict[str, Callable[[], Awaitable[None]]] = {}
        """By the id of the response: what to do when it was cancelled."""
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def keeping(self, response_id: str, on_cancel: Callable[[], Awaitable[None]]) -> Iterator[None]:
        """Renews the response's lease, until the context ends. Calls `on_cancel` once it is cancelled or deleted."""
        self._running[response_id] = on_cancel
        if self._task is None:
            self._task = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            self._running.pop(response_id, None)
            if not self._running and self._task is not None:
                self._task.cancel()
                self._task = None

    async def _keep(self) -> None:
        """Asks and renews, until it is cancelled. After an error it tries again."""
        renewed_at = time.monotonic()
        cancelled: set[str] = set()
        while True:
            await asyncio.sleep(POLL_S)
            ids = list(self._running)
            try:
                if time.monotonic() - renewed_at >= RENEWAL_S:
                    await self._store.database.run(self._store.renew_leases, ids)
                    renewed_at = time.monotonic()
                wanted = await self._store.database.run(self._store.wanted, ids)
            except StoreUnavailableError:  # the database has logged why
                logger.warning("cannot see now whether %d responses were cancelled", len(ids))
                continue
            cancelled.intersection_update(ids)
            for response_id in set(ids) - wanted - cancelled:
                if on_cancel := self._running.get(response_id):
                    cancelled.add(response_id)
                    try:
                        await on_cancel()
                    except Exception:  # the other responses' leases are still to be renewed
                        logger.exception("cannot stop the cancelled response %s", response_id)
