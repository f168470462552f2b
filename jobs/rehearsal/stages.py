"""Reports the stages of a training run while it runs: each as soon as it is reached, or as failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from jobs.rehearsal.report import RehearsalReport, Status
from tuneyard.core.errors import TuneyardError

POLL_EVERY_S = 0.02
"""Steps of the small model are short, and a worker must be killed before the last one."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage. `is_reached` looks whether it is; `describe` then says what there is to see.

    Both may raise a TuneyardError when the run has ended, which makes the stage fail.
    """

    name: str
    is_reached: Callable[[], bool]
    describe: Callable[[], str] = lambda: ""


class StageWatch:
    """Context manager around a training run. Every stage but the last is looked for while it runs, the last at its end.

    A TuneyardError of the run is the failure of the first stage that was not reached. It is not raised again: `passed`
    says whether all stages were. What `is_reached` or `describe` raises ends the watch, and counts at the run's end: a
    TuneyardError as that stage's failure; any other exception is a defect and is raised.
    """

    def __init__(self, report: RehearsalReport, stages: Sequence[Stage]) -> None:
        self._report = report
        self._stages = list(stages)
        self._next = 0
        self._ended = threading.Event()
        self._watch_error: Exception | None = None
        self._thread = threading.Thread(target=self._watch, name="rehearsal-stages", daemon=True)

    @property
    def passed(self) -> bool:
        """Whether every stage was reached."""
        return self._next == len(self._stages)

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._begin_next()
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> bool:
        self._ended.set()
        self._thread.join()
        if error is not None and not isinstance(error, TuneyardError):
            return False
        try:
            if self._watch_error is not None:
                raise self._watch_error from error
            if isinstance(error, TuneyardError):
                raise error
            self._look(len(self._stages))
        except TuneyardError as e:
            self._add("failed", str(e))
        return True

    def _watch(self) -> None:
        try:
            while not self._ended.wait(POLL_EVERY_S):
                self._look(len(self._stages) - 1)
        except Exception as e:  # noqa: BLE001  # __exit__ raises it in the thread of the run
            self._watch_error = e

    def _look(self, end: int) -> None:
        """Reports the stages before `end` that are reached, in their order."""
        while self._next < end and self._stages[self._next].is_reached():
            self._add("passed", self._stages[self._next].describe())
            self._next += 1
            self._begin_next()

    def _begin_next(self) -> None:
        if self._next < len(self._stages):
            self._report.begin(self._stages[self._next].name)

    def _add(self, status: Status, text: str) -> None:
        now = time.monotonic()
        self._report.add(self._stages[self._next].name, status, now - self._started, text)
        self._started = now
