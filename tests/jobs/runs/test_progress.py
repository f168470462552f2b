"""Progress: every event logged once, shown as lines where no terminal listens."""

from __future__ import annotations

import io
import time

import pytest

from jobs.runs import progress
from jobs.runs.progress import TrainingProgress


class Events:
    """Two portions of events, the second one late."""

    def __init__(self) -> None:
        self._portions = [
            [{"step": 3.0, "total_steps": 10.0, "loss": 2.0}],
            [{"step": 10.0, "total_steps": 10.0, "loss": 1.0}, {"step": 10.0, "total_steps": 10.0, "eval_loss": 1.5}],
        ]

    def next_events(self) -> list[dict[str, float]]:
        return self._portions.pop(0) if self._portions else []

    def notices(self) -> list[str]:
        return []


def test_every_event_is_logged_and_the_last_ones_are_not_lost() -> None:
    logged: list[tuple[int, dict[str, float]]] = []
    stream = io.StringIO()
    with TrainingProgress(Events(), logged.extend, stream) as progress:
        while not logged:
            time.sleep(0.01)
    assert logged == [(3, {"loss": 2.0}), (10, {"loss": 1.0}), (10, {"eval_loss": 1.5})]
    assert progress.last == {"step": 10.0, "total_steps": 10.0, "loss": 1.0, "eval_loss": 1.5}


class Interrupted(Events):
    """A run whose node dies after step 6, and that goes on from step 5."""

    def __init__(self) -> None:
        losses = [[4, 5], [6], [5], [6, 7]]
        self._portions = [
            [{"step": float(s), "total_steps": 7.0, "loss": 1.0, "workers": 2.0} for s in steps] for steps in losses
        ]

    def notices(self) -> list[str]:
        return ["node 10.0.0.7 is gone"] if len(self._portions) == 1 else []


@pytest.mark.parametrize("is_terminal", [True, False])
def test_who_follows_is_told_that_a_node_died_and_what_is_done_again(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "POLL_EVERY_S", 0.01)
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal)
    source = Interrupted()
    with TrainingProgress(source, lambda *_: None, stream):
        while source._portions:
            time.sleep(0.01)
    assert stream.getvalue().count("node 10.0.0.7 is gone") == 1
    assert stream.getvalue().count("(2 now): from step 5 on the run does again what it had done up to step 6") == 1


class Shrunk(Events):
    """A run that loses a worker just after a checkpoint, before its next step."""

    def __init__(self) -> None:
        self._portions = [
            [{"step": s, "total_steps": 4.0, "loss": 1.0, "workers": w}] for s, w in ((2.0, 2.0), (3.0, 1.0))
        ]


def test_who_follows_is_told_of_other_workers_even_if_nothing_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "POLL_EVERY_S", 0.01)
    stream = io.StringIO()
    source = Shrunk()
    with TrainingProgress(source, lambda *_: None, stream):
        while source._portions:
            time.sleep(0.01)
    assert stream.getvalue().count("the workers started again (1 now): the run goes on with step 3") == 1


def test_lines_say_step_loss_and_time_left() -> None:
    stream = io.StringIO()
    with TrainingProgress(Events(), lambda *_: None, stream):
        time.sleep(2.2)
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("training: step 3/10  loss 2.000")
    assert "held-out 1.500" in lines[-1]
    assert "ETA 0:00" in lines[-1]
