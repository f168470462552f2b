"""The stages of a training run: reported in order as they are reached; a failure is that of the first one missing."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.rehearsal.report import RehearsalReport
from jobs.rehearsal.stages import Stage, StageWatch
from tuneyard.core.errors import CheckpointError, TrainingError


def watch_of(report: RehearsalReport, reached: dict[str, bool]) -> StageWatch:
    return StageWatch(report, [Stage(name, lambda name=name: reached[name]) for name in reached])


def outcomes(report: RehearsalReport) -> list[tuple[str, str]]:
    return [(result.name, result.status) for result in report.results]


def wait_for(report: RehearsalReport, count: int) -> None:
    deadline = time.monotonic() + 10
    while len(report.results) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_stages_are_reported_while_the_run_goes_on_and_the_last_at_its_end() -> None:
    report, reached = RehearsalReport(lambda _: None), {"train": False, "checkpoint": False, "resume": True}
    with watch_of(report, reached) as watch:
        assert outcomes(report) == []
        reached["train"] = True
        wait_for(report, 1)
        reached["checkpoint"] = True
        wait_for(report, 2)
        time.sleep(0.1)
        assert len(report.results) == 2
    assert watch.passed
    assert outcomes(report) == [("train", "passed"), ("checkpoint", "passed"), ("resume", "passed")]


@given(done=st.integers(0, 3))
def test_an_error_of_the_run_is_that_of_the_first_stage_not_reached(done: int) -> None:
    names = ["import", "train", "checkpoint", "resume"]
    report = RehearsalReport(lambda _: None)
    with watch_of(report, {name: index < done for index, name in enumerate(names)}) as watch:
        wait_for(report, done)
        raise TrainingError("the workers failed")
    assert not watch.passed
    assert outcomes(report) == [*((name, "passed") for name in names[:done]), (names[done], "failed")]
    assert report.failed[0].text == "the workers failed"


def test_a_last_stage_that_is_wrong_fails() -> None:
    def lost() -> bool:
        raise TrainingError("began again with step 1")

    report = RehearsalReport(lambda _: None)
    with StageWatch(report, [Stage("train", lambda: True), Stage("resume", lost)]) as watch:
        pass
    assert not watch.passed
    assert outcomes(report) == [("train", "passed"), ("resume", "failed")]


@pytest.mark.parametrize("run_fails", [False, True])
def test_an_error_of_the_watch_is_that_of_its_stage(run_fails: bool) -> None:
    failed = threading.Event()

    def refuse() -> bool:
        failed.set()
        raise CheckpointError("snapshot.json cannot be read")

    report = RehearsalReport(lambda _: None)
    stages = [Stage("train", lambda: True), Stage("checkpoint", refuse), Stage("resume", lambda: True)]
    with StageWatch(report, stages) as watch:
        assert failed.wait(10)
        if run_fails:
            raise TrainingError("the workers failed")
    assert not watch.passed
    assert outcomes(report) == [("train", "passed"), ("checkpoint", "failed")]
    assert report.failed[0].text == "snapshot.json cannot be read"


def test_a_defect_of_the_watch_is_raised_and_not_taken_for_the_runs() -> None:
    failed = threading.Event()

    def defect() -> bool:
        failed.set()
        raise KeyError("metrics")

    report = RehearsalReport(lambda _: None)
    with (
        pytest.raises(KeyError, match="metrics"),
        StageWatch(report, [Stage("checkpoint", defect), Stage("resume", lambda: True)]),
    ):
        assert failed.wait(10)
    assert outcomes(report) == []


def test_other_exceptions_are_raised() -> None:
    report = RehearsalReport(lambda _: None)
    with pytest.raises(KeyboardInterrupt), watch_of(report, {"train": False, "resume": False}):
        raise KeyboardInterrupt
    assert outcomes(report) == []
