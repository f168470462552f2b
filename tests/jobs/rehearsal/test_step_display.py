"""The lines of a rehearsal: every result once and in order, and on a terminal the running step below them."""

from __future__ import annotations

import io
import time

import pytest

from jobs.rehearsal.report import RehearsalReport, StepResult
from jobs.rehearsal.step_display import CLEAR_LINE, StepDisplay
from tuneyard.core.errors import ConfigError


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """The lines that a person sees."""
        return [line.rpartition(CLEAR_LINE)[2] for line in self.getvalue().split("\n")]


def test_a_file_gets_the_results_only() -> None:
    stream = io.StringIO()
    with StepDisplay(stream) as display:
        display.begin("data")
        display.show(StepResult("data", "passed", 1.0, "3 rows"))
        display.write("[rehearse] 1 step passed")
    assert stream.getvalue() == "  ✓ data            1.0 s   3 rows\n[rehearse] 1 step passed\n"


def test_a_terminal_shows_the_running_step_below_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.rehearsal.step_display.REFRESH_EVERY_S", 0.01)
    stream = Terminal()
    with StepDisplay(stream) as display:
        display.begin("data")
        display.write("[rehearse] files: /kept")
        assert stream.screen() == ["[rehearse] files: /kept", "  … data              0 s"]
        shown = stream.getvalue().count("… data")
        deadline = time.monotonic() + 10
        while stream.getvalue().count("… data") == shown:  # its time goes on
            assert time.monotonic() < deadline
            time.sleep(0.01)
        display.show(StepResult("data", "passed", 1.0, "3 rows"))
        assert stream.screen() == ["[rehearse] files: /kept", "  ✓ data            1.0 s   3 rows", ""]
        display.begin("serve")
    assert stream.screen()[-1] == "", "the running step stays on the screen at the end"


def test_each_step_of_a_report_begins_before_its_result() -> None:
    stream = Terminal()
    with StepDisplay(stream) as display:
        report = RehearsalReport(display.show, display.begin)
        seen = report.run("data", lambda: stream.screen()[-1].split()[1])
        assert seen == "data"

        def fail() -> None:
            raise ConfigError("no such folder")

        report.run("storage", fail)
        assert stream.screen()[-1] == ""
