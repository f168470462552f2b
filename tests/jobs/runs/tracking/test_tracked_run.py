"""What a run at a tracking service gets, whatever its driver and its server do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.runs.tracking.messages import EndMessage, Notice, PointMessage, StartMessage
from jobs.runs.tracking.tracked_run import MAX_WARNING_CHARACTERS, serve_run
from tests.jobs.runs.tracking.recorded_run import RecordedRun
from tuneyard.configs.experiment_tracking import WandbConfig

START = StartMessage(run_id="r", name="n", folder="f", wandb=WandbConfig(project="p"), settings={}).as_line()


def point(step: int) -> str:
    return PointMessage(step=step, metrics={"loss": 1.0 / step}).as_line()


def serve(lines: list[str], run: RecordedRun) -> list[Notice]:
    """Serves the run; what was called before its end is noted among its calls."""
    notices: list[Notice] = []
    serve_run(lines, lambda _: run, notices.append, lambda: run.calls.append(("before",)))
    return notices


@given(steps=st.lists(st.integers(1, 100)), has_end=st.booleans(), succeeded=st.booleans())
def test_a_run_gets_all_points_in_order_and_one_end(steps: list[int], has_end: bool, succeeded: bool) -> None:
    run = RecordedRun()
    end = [EndMessage(succeeded=succeeded, summary={"model": "m/1"}).as_line()] if has_end else []
    notices = serve([START, *map(point, steps), *end], run)
    assert [(notice.kind, notice.text) for notice in notices] == [("run", run.url)]
    last = ("finish", {"model": "m/1"}, succeeded) if has_end else ("finish", {"state": "interrupted"}, False)
    assert run.calls == [*(("log", step, {"loss": 1.0 / step}) for step in steps), ("before",), last]


@pytest.mark.parametrize("method", ["log", "finish"])
def test_an_error_of_the_service_is_one_warning(method: str) -> None:
    run = RecordedRun(fails_in=method)
    notices = serve([START, point(1), point(2), EndMessage(succeeded=True, summary={}).as_line()], run)
    assert [(notice.kind, notice.text) for notice in notices[1:]] == [("warning", "the server is lost")]


def test_a_run_that_cannot_be_opened_is_one_warning() -> None:
    def refuse(_: StartMessage) -> RecordedRun:
        raise PermissionError("x" * 1000)

    notices: list[Notice] = []
    serve_run([START, point(1)], refuse, notices.append, lambda: None)
    assert [notice.kind for notice in notices] == ["warning"]
    assert len(notices[0].text) == MAX_WARNING_CHARACTERS


def test_nothing_is_done_without_a_start() -> None:
    run = RecordedRun()
    (notice,) = serve([point(1)], run)
    assert notice.text == "the first message is of the kind 'point', and must be 'start'"
    assert run.calls == []
    assert serve([], run) == []
