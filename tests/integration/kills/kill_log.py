"""KillLog: what was killed, and how long it took until its work went on; as a table for docs/operations.md."""

from __future__ import annotations

import contextlib
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from sqlalchemy.exc import DBAPIError

DATABASE, DATABASE_ALONE = "database", "database, while all else lives"
KINDS = ("API", "reconciler", "driver", "worker", "head", DATABASE, DATABASE_ALONE)
POLL_S = 0.3


@dataclass
class Kill:
    """Something that was killed. `is_over` tells whether its work goes on."""

    kind: str
    killed_at: float
    is_over: Callable[[], bool]
    recovered_s: float | None = None


class KillLog:
    """The kills of all parts of the test; a line of JSON for each in `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kills: list[Kill] = []

    def add(self, kind: str, is_over: Callable[[], bool], killed_at: float) -> None:
        """Something of this kind was killed."""
        self._kills.append(Kill(kind, killed_at, is_over))

    def open_kinds(self) -> list[str]:
        """What was killed and does not go on yet."""
        return [kill.kind for kill in self._kills if kill.recovered_s is None]

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Looks meanwhile, in a thread, what goes on again."""
        is_closed = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(is_closed,), name="kill log")
        watcher.start()
        try:
            yield
        finally:
            is_closed.set()
            watcher.join()

    def table(self) -> str:
        """The kills of all runs that wrote into the file, as Markdown."""
        lines = [json.loads(line) for line in self._path.read_text(encoding="utf-8").splitlines()]
        rows = ["| Killed | Times | Goes on after, median | longest |", "|---|---|---|---|"]
        for kind in KINDS:
            seconds = [line["recovered_s"] for line in lines if line["kind"] == kind]
            if seconds:
                rows.append(f"| {kind} | {len(seconds)} | {statistics.median(seconds):.0f} s | {max(seconds):.0f} s |")
        return "\n".join(rows)

    def _watch(self, is_closed: threading.Event) -> None:
        while not is_closed.wait(POLL_S):
            for kill in list(self._kills):
                # While the whole node or the database is down, neither processes nor the store can be asked.
                with contextlib.suppress(psutil.Error, DBAPIError):
                    if kill.recovered_s is None and kill.is_over():
                        self._note(kill)

    def _note(self, kill: Kill) -> None:
        kill.recovered_s = time.monotonic() - kill.killed_at
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kill.kind, "recovered_s": round(kill.recovered_s, 1)}) + "\n")
