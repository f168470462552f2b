"""A rehearsal's report: what passed, what failed with which words, and what was left out."""

from __future__ import annotations

import json

import pytest

from jobs.rehearsal.report import MAX_LINES, NotRehearsed, RehearsalReport, StepResult
from tuneyard.core.errors import ConfigError


def failing() -> str:
    raise ConfigError("first line\nsecond line")


def unavailable() -> str:
    raise NotRehearsed("no NeMo here")


def test_a_passed_rehearsal_shows_each_step_at_once_and_names_what_was_left_out() -> None:
    shown: list[StepResult] = []
    report = RehearsalReport(shown.append)
    assert report.run("data", lambda: 3, lambda rows: f"{rows} rows") == 3
    assert [str(result) for result in shown] == ["  ✓ data            0.0 s   3 rows"]
    assert report.run("base", unavailable) is None
    assert not report.passed  # its last step was not reached
    assert report.run("serve", lambda: "") == ""
    assert report.passed
    assert report.verdict() == "2 steps passed in 0 s; not rehearsed: base"
    assert shown[1:] == report.results[1:]


def test_a_failed_step_is_the_verdict_and_its_lines_are_aligned() -> None:
    report = RehearsalReport(lambda _: None)
    assert report.run("layout", failing) is None
    assert report.run("serve", lambda: "x") == "x"
    assert not report.passed
    assert report.verdict() == "the run would fail at the step 'layout'; rehearsed in 0 s"
    first, second = str(report.failed[0]).splitlines()
    assert first.index("first line") == second.index("second line")


def test_a_defect_is_no_result() -> None:
    report = RehearsalReport(lambda _: None)
    with pytest.raises(ZeroDivisionError):
        report.run("data", lambda: 1 // 0)
    assert report.results == []


def test_the_json_report_has_the_whole_text() -> None:
    report = RehearsalReport(lambda _: None)
    text = "\n".join(f"line {number}" for number in range(3 * MAX_LINES))
    report.add("train", "failed", 1.26, text)
    found = json.loads(json.dumps(report.as_json()))
    assert found["passed"] is False
    assert found["failed_step"] == "train"
    assert found["steps"] == [{"name": "train", "status": "failed", "seconds": 1.3, "text": text}]
    lines = str(report.results[0]).splitlines()
    assert len(lines) == MAX_LINES
    assert lines[-1].endswith(f"line {3 * MAX_LINES - 1}")
