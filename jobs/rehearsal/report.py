"""The steps of a rehearsal with their results: shown one by one, and together as JSON."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar

from tuneyard.core.errors import TuneyardError
from tuneyard.core.wording import count_of

Status = Literal["passed", "failed", "not rehearsed"]

SIGNS: dict[Status, str] = {"passed": "✓", "failed": "✗", "not rehearsed": "–"}
NAME_WIDTH = 12
INDENT = "\n" + " " * (NAME_WIDTH + 16)
MAX_LINES = 24
"""Lines of a step that are shown. The JSON report has all."""

Result = TypeVar("Result")


class NotRehearsed(Exception):
    """Raised by a step that cannot be rehearsed here. The message says why, and how it can be."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step found. `text` holds its findings, or why it failed or was left out, with the fix."""

    name: str
    status: Status
    seconds: float
    text: str

    def __str__(self) -> str:
        lines = self.text.splitlines()
        if len(lines) > MAX_LINES:  # a traceback of a worker: its end says what happened
            lines = [*lines[:2], "…", *lines[3 - MAX_LINES :]]
        return f"  {SIGNS[self.status]} {self.name:<{NAME_WIDTH}} {self.seconds:6.1f} s   {INDENT.join(lines)}".rstrip()


@dataclass(slots=True)
class RehearsalReport:
    """The results of all steps so far. `show` is called with each new one, `begin` with the name of one that starts."""

    show: Callable[[StepResult], None]
    begin: Callable[[str], None] = lambda _: None
    results: list[StepResult] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def run(
        self, name: str, action: Callable[[], Result], describe: Callable[[Result], str] = lambda _: ""
    ) -> Result | None:
        """Takes a step and returns its result; None if it failed or was left out.

        A TuneyardError makes the step fail; any other exception is a defect and is raised. `describe` gives the text of
        a step that passed.
        """
        self.begin(name)
        started = time.monotonic()
        try:
            result = action()
            self.add(name, "passed", time.monotonic() - started, describe(result))
        except TuneyardError as e:
            self.add(name, "failed", time.monotonic() - started, str(e))
            return None
        except NotRehearsed as e:
            self.add(name, "not rehearsed", time.monotonic() - started, str(e))
            return None
        return result

    def add(self, name: str, status: Status, seconds: float, text: str) -> None:
        """Adds and shows the result of a step."""
        self.results.append(StepResult(name, status, seconds, text))
        self.show(self.results[-1])

    def skip(self, names: tuple[str, ...], reason: str) -> None:
        """Adds steps that cannot be rehearsed here, all for one reason, which is the text of the first."""
        for place, name in enumerate(names):
            self.add(name, "not rehearsed", 0.0, reason if place == 0 else "for the same reason")

    @property
    def failed(self) -> list[StepResult]:
        """The steps that failed, in order."""
        return [result for result in self.results if result.status == "failed"]

    @property
    def not_rehearsed(self) -> list[StepResult]:
        """The steps that were left out, in order."""
        return [result for result in self.results if result.status == "not rehearsed"]

    @property
    def passed(self) -> bool:
        """Whether no step failed and the last one was reached. A step before it may have been left out."""
        return bool(self.results) and not self.failed and self.results[-1].status == "passed"

    def verdict(self) -> str:
        """The last line of a rehearsal: what failed, or what passed and what was left out."""
        seconds = time.monotonic() - self.started
        if self.failed:
            return f"the run would fail at the step {self.failed[0].name!r}; rehearsed in {seconds:.0f} s"
        passed = sum(result.status == "passed" for result in self.results)
        text = f"{count_of(passed, 'step')} passed in {seconds:.0f} s"
        if left_out := self.not_rehearsed:
            text += f"; not rehearsed: {', '.join(result.name for result in left_out)}"
        return text

    def as_json(self) -> dict[str, Any]:
        """The report for programs: the verdict as `passed`, and every step with its status, text and seconds."""
        return {
            "passed": self.passed,
            "failed_step": self.failed[0].name if self.failed else None,
            "seconds": round(time.monotonic() - self.started, 1),
            "steps": [asdict(result) | {"seconds": round(result.seconds, 1)} for result in self.results],
        }
