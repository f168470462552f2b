"""What is told of a run: for every combination of what the registry and Ray say."""

from __future__ import annotations

import math

import hypothesis.strategies as st
from hypothesis import given

from serve_apps.platform_app.fine_tuning.execution.run_records import MetricPoint
from serve_apps.platform_app.fine_tuning.records.states import RunState
from serve_apps.platform_app.runs.curves import build_curves
from serve_apps.platform_app.runs.run_jobs import RunJob
from serve_apps.platform_app.runs.run_summary import KnownRun, join_runs, summarize
from tuneyard.checkpoints.registry import LoggedPoint, LoggedRun

NUMBERS = st.floats(allow_nan=True, allow_infinity=True)


def logged_runs() -> st.SearchStrategy[LoggedRun]:
    points = st.builds(
        LoggedPoint,
        st.just("epoch"),
        st.integers(0, 1000),
        NUMBERS,
        st.floats(0, 2000),
    )
    return st.builds(
        LoggedRun,
        run_id=st.sampled_from("abcd"),
        name=st.sampled_from(["one", "two"]),
        model_name=st.just("m"),
        status=st.sampled_from(["RUNNING", "FINISHED", "FAILED", "KILLED", "SCHEDULED"]),
        started_at=st.floats(0, 1000),
        ended_at=st.none() | st.floats(0, 2000),
        params=st.fixed_dictionaries(
            {},
            optional={
                "training.epochs": st.sampled_from(["3.0", "0", "nan", "None", "x"]),
                "training.max_steps": st.sampled_from(["None", "10", "-1"]),
            },
        ),
        latest=st.dictionaries(st.sampled_from(["epoch", "loss"]), points),
    )


def jobs() -> st.SearchStrategy[RunJob]:
    return st.builds(
        RunJob,
        id=st.uuids().map(str),
        run=st.sampled_from(["one", "two", "three"]),
        state=st.sampled_from(RunState),
        message=st.sampled_from(["", "why"]),
        started_at=st.floats(0, 1000),
        ended_at=st.none() | st.floats(0, 2000),
    )


@given(
    logged=st.lists(logged_runs(), max_size=4, unique_by=lambda run: run.run_id),
    submitted=st.lists(jobs(), max_size=5, unique_by=lambda job: job.id),
    now=st.floats(0, 10_000),
)
def test_every_run_is_told_once_and_in_order(logged: list[LoggedRun], submitted: list[RunJob], now: float) -> None:
    runs = join_runs(logged, submitted, {})
    assert sorted(run.logged.run_id for run in runs if run.logged is not None) == sorted(run.run_id for run in logged)
    names = {run.name for run in logged}
    assert {run.job.run for run in runs if run.job is not None} == {job.run for job in submitted}
    assert all(run.logged is not None or (run.job is not None and run.job.run not in names) for run in runs)
    told = [summarize(run, (), now) for run in runs]
    assert [run.started_at for run in told] == sorted((run.started_at for run in told), reverse=True)
    for run in told:
        assert run.progress is None or 0 < run.progress <= 1
        assert run.total_steps is None or (run.step is not None and run.total_steps >= 0)
        assert all(map(math.isfinite, run.metrics.values()))
        assert run.finished_at is None or run.status in ("succeeded", "failed", "stopped")
        assert run.model_validate_json(run.model_dump_json()) == run


def a_run(status: str = "RUNNING") -> LoggedRun:
    return LoggedRun("id", "one", "m", status, 100.0, None, {"training.epochs": "2.0"}, {})


def a_job(state: RunState) -> RunJob:
    return RunJob("job", "one", state, "", 90.0, None)


def test_the_job_decides_until_the_registry_has_the_result() -> None:
    for state, status, expected in (
        (RunState.RUNNING, "RUNNING", "running"),
        (RunState.PENDING, "RUNNING", "queued"),
        (RunState.STOPPED, "RUNNING", "stopped"),
        (RunState.INTERRUPTED, "RUNNING", "failed"),
        (RunState.FAILED, "FAILED", "failed"),
        (RunState.RUNNING, "FAILED", "running"),  # resumed
        (RunState.RUNNING, "FINISHED", "succeeded"),  # and it deploys the result
        (RunState.SUCCEEDED, "FINISHED", "succeeded"),
    ):
        assert summarize(KnownRun(a_run(status), a_job(state)), (), 100.0).status == expected, (state, status)


def test_a_run_that_no_job_runs_is_silent_after_a_while() -> None:
    assert summarize(KnownRun(a_run(), None), (), 110.0).status == "running"
    assert summarize(KnownRun(a_run(), None), (), 2000.0).status == "silent"


def test_the_end_follows_from_the_pace() -> None:
    epochs = [MetricPoint(step, {"epoch": step / 10}, 100.0 + step) for step in (5, 10)]
    assert summarize(KnownRun(a_run(), a_job(RunState.RUNNING)), epochs, 110.0).estimated_finish == 120


def test_with_a_number_of_steps_progress_follows_from_it() -> None:
    logged = a_run()
    logged.params["training.max_steps"] = "40"
    logged.latest["epoch"] = LoggedPoint("epoch", 10, 0.5, 105.0)
    run = summarize(KnownRun(logged, a_job(RunState.RUNNING)), (), 110.0)
    assert (run.step, run.total_steps, run.progress) == (10, 40, 0.25)


@given(
    steps=st.lists(st.tuples(st.booleans(), st.booleans(), NUMBERS), max_size=200),
    most=st.integers(2, 50),
)
def test_curves_keep_the_first_and_the_last_point(steps: list[tuple[bool, bool, float]], most: int) -> None:
    points = [
        MetricPoint(step, {name: value for name, there in (("a", a), ("b", b)) if there}, 0.0)
        for step, (a, b, value) in enumerate(steps)
    ]
    for curve in build_curves(points, most):
        measured = [point.step for point in points if curve.name in point.values]
        assert (curve.steps[0], curve.steps[-1]) == (measured[0], measured[-1])
        assert len(curve.steps) == len(curve.values) == min(len(curve.steps), most)
        assert list(curve.steps) == sorted(set(curve.steps))
        assert len(measured) > most or list(curve.steps) == measured
        for step, value in zip(curve.steps, curve.values, strict=True):
            logged = points[step].values[curve.name]
            assert value == logged if math.isfinite(logged) else value is None
