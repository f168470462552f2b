"""What clients are told of a run's metrics."""

from __future__ import annotations

import csv
import io

import hypothesis.strategies as st
from hypothesis import given

from serve_apps.platform_app.fine_tuning.execution.metric_events import (
    MAX_STEP_EVENTS,
    awaits_validation,
    checkpoint_metrics,
    estimated_finish,
    results_csv,
    step_events,
    total_steps,
    trained_tokens,
)
from serve_apps.platform_app.fine_tuning.execution.ray_job_runner import error_message, run_command
from serve_apps.platform_app.fine_tuning.execution.run_records import MetricPoint, TrainingRecord


def point(step: int, total: int = 100, epochs: int = 2, **values: float) -> MetricPoint:
    return MetricPoint(step, {"loss": 1.0 / step, "epoch": epochs * step / total} | values, 1000.0 + step)


@given(step=st.integers(1, 5000), more=st.integers(0, 5000), epochs=st.integers(1, 20))
def test_the_number_of_steps_and_the_end_follow_from_the_progress(step: int, more: int, epochs: int) -> None:
    total = step + more
    last = point(step, total, epochs)
    assert total_steps(last, epochs) == total
    finish = estimated_finish(point(1, total, epochs), last, epochs)
    if step == 1:
        assert finish is None
    else:
        assert finish is not None
        assert abs(finish - (1000.0 + total)) < 1e-3


@given(
    steps_per_epoch=st.integers(1, 300),
    epochs=st.integers(1, 20),
    place=st.floats(0, 1),
    every=st.none() | st.integers(1, 400),
    heldout=st.none() | st.just("heldout.jsonl"),
)
def test_a_step_waits_exactly_while_its_validation_may_follow(
    steps_per_epoch: int, epochs: int, place: float, every: int | None, heldout: str | None
) -> None:
    total = steps_per_epoch * epochs
    step = 1 + round(place * (total - 1))
    config = {"data": {"heldout": heldout}, "training": {"eval_every_steps": every}}
    newest = MetricPoint(step, {"loss": 1.0, "epoch": step / steps_per_epoch}, 1000.0)
    is_measured = heldout is not None and step % (every or steps_per_epoch) == 0
    is_last = heldout is not None and step == total
    assert awaits_validation(newest, total_steps(newest, epochs), config) == (is_measured or is_last)
    measured = MetricPoint(step, {**newest.values, "eval_loss": 1.0}, 1000.0)
    assert not awaits_validation(measured, total_steps(measured, epochs), config)


def test_a_step_of_unknown_place_waits_if_there_are_held_out_rows() -> None:
    newest = MetricPoint(3, {"loss": 1.0}, 1000.0)
    config = {"data": {"heldout": "heldout.jsonl"}, "training": {"eval_every_steps": 2}}
    assert awaits_validation(newest, total_steps(newest, 2), config)
    assert not awaits_validation(newest, None, config | {"data": {"heldout": None}})


def test_a_long_run_is_told_in_about_a_thousand_events_with_every_validation() -> None:
    points = [point(step, 20_000, **({"eval_loss": 1.0} if step % 4999 == 0 else {})) for step in range(1, 20_001)]
    events = step_events(points, 20_000)
    assert MAX_STEP_EVENTS <= len(events) <= MAX_STEP_EVENTS + 6
    assert {event.data["step"] for event in events} >= {1, 4999, 9998, 14_997, 19_996, 20_000}


def test_the_table_has_only_what_was_measured() -> None:
    dpo = [point(1, preference_accuracy=0.5, reward_margin=0.1), point(2, eval_loss=0.25)]
    rows = list(csv.reader(io.StringIO(results_csv(dpo).decode())))
    assert rows == [
        ["step", "train_loss", "valid_loss", "train_preference_accuracy", "train_reward_margin"],
        ["1", "1", "", "0.5", "0.1"],
        ["2", "0.5", "0.25", "", ""],
    ]
    assert results_csv([]) == b"step\n"


def test_tokens_are_those_of_all_epochs() -> None:
    assert trained_tokens(TrainingRecord([point(50), point(100)], 1234)) == 2468
    assert trained_tokens(TrainingRecord([], 1234)) is None
    assert trained_tokens(TrainingRecord([point(100)], None)) is None


def test_the_reason_of_a_failure_is_the_last_error_of_the_log() -> None:
    log = "[finetune] checking\nerror: first\n[finetune] again\nerror: The loss is nan.\nLower the rate.\n"
    assert error_message(log) == "The loss is nan.\nLower the rate."
    assert error_message("no error: here") == ""


def test_a_run_joins_the_cluster_that_submits_it() -> None:
    """Ray's own RAY_ADDRESS may be that of another Ray on the machine."""
    command = run_command("/my env/bin/python", "10.0.0.1:6379")
    assert command == "RAY_ADDRESS=10.0.0.1:6379 '/my env/bin/python' -m jobs.finetune --config env:TUNEYARD_CONFIG"


def test_the_metrics_of_a_checkpoint_are_those_at_its_step() -> None:
    points = [point(1), point(2, eval_loss=0.75), point(3), point(4, eval_loss=0.25)]
    third = checkpoint_metrics(points, 3)
    assert (third.step, third.train_loss, third.full_valid_loss) == (3.0, 1 / 3, 0.75)
    assert checkpoint_metrics(points, None) == checkpoint_metrics(points, 4)
    assert checkpoint_metrics([], None).step is None
