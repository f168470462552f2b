"""The main memory that a process takes, without the pages of files: Linux drops those when memory is needed."""

from __future__ import annotations

import threading
from pathlib import Path

import psutil

SAMPLE_S = 0.005


class PeakMemory:
    """The largest number of anonymous bytes of this process, sampled by a thread until `stop`."""

    def __init__(self) -> None:
        self._start = self._peak = _anonymous_bytes()
        self._is_done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        while not self._is_done.wait(SAMPLE_S):
            self._peak = max(self._peak, _anonymous_bytes())

    def stop(self) -> int:
        """Bytes of the peak beyond the start."""
        self._is_done.set()
        self._thread.join()
        return self._peak - self._start


def _anonymous_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])


def own_bytes(process: psutil.Process) -> int:
    """Resident memory that is not shared: neither files nor Ray's object store."""
    memory = process.memory_info()
    return int(memory.rss - memory.shared)
