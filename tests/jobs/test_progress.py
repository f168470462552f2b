"""Progress: every event logged once, shown as lines where no terminal listens."""

from __future__ import annotations

import io
import time

from jobs.progress import TrainingProgress


class Events:
    """Two portions of events, the second one late."""

    def __init__(self) -> None:
        self._portions = [
            [{"step": 3.0, "total_steps": 10.0, "loss": 2.0}],
            [{"step": 10.0, "total_steps": 10.0, "loss": 1.0}, {"step": 10.0, "total_steps": 10.0, "eval_loss": 1.5}],
        ]

    def next_events(self) -> list[dict[str, float]]:
        return self._portions.pop(0) if self._portions else []


def test_every_event_is_logged_and_the_last_ones_are_not_lost() -> None:
    logged: list[tuple[int, dict[str, float]]] = []
    stream = io.StringIO()
    with TrainingProgress(Events(), logged.extend, stream) as progress:
        while not logged:
            time.sleep(0.01)
    assert logged == [(3, {"loss": 2.0}), (10, {"loss": 1.0}), (10, {"eval_loss": 1.5})]
    assert progress.last == {"step": 10.0, "total_steps": 10.0, "loss": 1.0, "eval_loss": 1.5}


def test_lines_say_step_loss_and_time_left() -> None:
    stream = io.StringIO()
    with TrainingProgress(Events(), lambda *_: None, stream):
        time.sleep(1.2)
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("training: step 3/10  loss 2.000")
    assert "held-out 1.500" in lines[-1]
    assert "ETA 0:00" in lines[-1]
