"""DatabaseOutages: a PostgreSQL server is killed, and started again some seconds later, while the test goes on."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from tests.integration.kills.record_store import RecordStore

POLL_S = 0.5


class DatabaseOutages:
    """Outages of the store's server, one at a time. Calls `check` from a thread again and again while it is down."""

    def __init__(self, store: RecordStore, check: Callable[[], None]) -> None:
        self._store = store
        self._check = check
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="outage")
        self._running: Future[None] | None = None

    @property
    def is_down(self) -> bool:
        """Whether an outage lasts."""
        return self._running is not None and not self._running.done()

    def begin(self, end: signal.Signals, down_s: float, note_start: Callable[[], None]) -> None:
        """Kills the server with this signal. It is started after so many seconds, which is noted from a thread.

        Not while an outage lasts.
        """
        self.wait()
        self._store.kill(end)
        self._running = self._threads.submit(self._last, down_s, note_start)

    def wait(self) -> None:
        """Returns when the server runs. Raises what `check` raised."""
        if self._running is not None:
            self._running.result()
        self._running = None

    def _last(self, down_s: float, note_start: Callable[[], None]) -> None:
        until = time.monotonic() + down_s
        try:
            while time.monotonic() < until:
                self._check()
                time.sleep(POLL_S)
        finally:
            self._store.start()
            note_start()
