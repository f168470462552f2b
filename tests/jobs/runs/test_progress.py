"""Progress: every event is logged once, and shown as lines where the output is no terminal."""

from __future__ import annotations

import io
import time

import pytest

from jobs.runs import progress
from jobs.runs.progress import TrainingProgress


class Events:
    """Two batches of events, for two polls."""

    def __init__(self) -> None:
        self._batches = [
            [{"step": 3.0, "total_steps": 10.0, "loss": 2.0}],
            [{"step": 10.0, "total_steps": 10.0, "loss": 1.0}, {"step": 10.0, "total_steps": 10.0, "eval_loss": 1.5}],
        ]

    def next_events(self) -> list[dict[str, float]]:
        return self._batches.pop(0) if self._batches else []

    def notices(self) -> list[str]:
        return []


def test_every_event_is_logged_and_the_last_ones_are_not_lost() -> None:
    logged: list[tuple[int, dict[str, float]]] = []
    stream = io.StringIO()
    with TrainingProgress(Events(), logged.extend, stream) as progress:
        while not logged:
            time.sleep(0.01)
    assert logged == [(3, {"loss": 2.0}), (10, {"loss": 1.0}), (10, {"eval_loss": 1.5})]
    assert progress.latest == {"step": 10.0, "total_steps": 10.0, "loss": 1.0, "eval_loss": 1.5}


class Starting(Events):
    """A run whose workers start for some polls."""

    def __init__(self) -> None:
        self._batches = [[], [], [{"step": 1.0, "total_steps": 10.0, "loss": 2.0}]]


def test_polls_before_the_first_step_do_not_wait_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    assert progress.FIRST_POLL_EVERY_S < progress.POLL_EVERY_S
    monkeypatch.setattr(progress, "POLL_EVERY_S", 1000)
    monkeypatch.setattr(progress, "FIRST_POLL_EVERY_S", 0.01)
    stream = io.StringIO()
    began = time.monotonic()
    with TrainingProgress(Starting(), lambda *_: None, stream):
        while "step 1/10" not in stream.getvalue():
            assert time.monotonic() - began < 100
            time.sleep(0.01)


class Interrupted(Events):
    """A run whose node dies after step 6, and that continues from step 5."""

    def __init__(self) -> None:
        losses = [[4, 5], [6], [5], [6, 7]]
        self._batches = [
            [{"step": float(s), "total_steps": 7.0, "loss": 1.0, "workers": 2.0} for s in steps] for steps in losses
        ]

    def notices(self) -> list[str]:
        return ["node 10.0.0.7 has left"] if len(self._batches) == 1 else []


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_lost_node_and_repeated_steps_are_reported(is_terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "POLL_EVERY_S", 0.01)
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal)
    source = Interrupted()
    with TrainingProgress(source, lambda *_: None, stream):
        while source._batches:
            time.sleep(0.01)
    assert stream.getvalue().count("node 10.0.0.7 has left") == 1
    assert stream.getvalue().count("(2 now): the run repeats steps 5 to 6 with the same rows") == 1


class Shrunk(Events):
    """A run that loses a worker just after a checkpoint, before its next step."""

    def __init__(self) -> None:
        self._batches = [
            [{"step": s, "total_steps": 4.0, "loss": 1.0, "workers": w}] for s, w in ((2.0, 2.0), (3.0, 1.0))
        ]


def test_another_number_of_workers_is_reported_even_if_no_step_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "POLL_EVERY_S", 0.01)
    stream = io.StringIO()
    source = Shrunk()
    with TrainingProgress(source, lambda *_: None, stream):
        while source._batches:
            time.sleep(0.01)
    assert stream.getvalue().count("the workers started again (1 now): the run continues with step 3") == 1


def test_a_line_holds_step_loss_and_time_left() -> None:
    stream = io.StringIO()
    with TrainingProgress(Events(), lambda *_: None, stream):
        time.sleep(2.2)
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("training: step 3/10  loss 2.000")
    assert "held-out 1.500" in lines[-1]
    assert "ETA 0:00" in lines[-1]
