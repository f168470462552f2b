"""TrainingProgress: shows a run's metrics as a progress bar or plain lines, and logs them, in a driver thread."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from tqdm import tqdm

from tuneyard.core.room_commands import PROGRESS_PREFIX, progress_line

POLL_EVERY_S = 2.0
"""Each poll calls the cluster's head and writes to the registry; on a small machine that takes the workers' cores."""

FIRST_POLL_EVERY_S = 0.5
"""The same until the first event: the workers still start then, and there is nothing to write."""

LINE_EVERY_S = 5.0
"""Least time between two plain lines where the output is no terminal."""

LogPoints = Callable[[list[tuple[int, dict[str, float]]]], None]
"""Logs points of metrics: each is a step and values by metric name."""


class EventSource(Protocol):
    """Where TrainingProgress gets the events of a run from."""

    def next_events(self) -> list[dict[str, float]]:
        """The metrics reported since the last call, in order. Each holds at least `step` and `total_steps`."""

    def notices(self) -> list[str]:
        """One line for each change of the cluster since the last call."""


class TrainingProgress:
    """Context manager that shows and logs every event of a run until it closes; the last events are not lost.

    It also prints the source's notices, and a line when the workers were restarted. `latest` holds the newest value of
    every metric.
    """

    def __init__(self, source: EventSource, log: LogPoints, stream: TextIO | None = None) -> None:
        self._source = source
        self._log = log
        self._stream = stream or sys.stderr
        self._bar: tqdm[Any] | None = None
        self._next_line_at = 0.0
        self._pace_start: tuple[float, float] | None = None
        """Step and time of the first event since the workers started."""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="training-progress", daemon=True)
        self.latest: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join(timeout=30)
        if self._bar is not None:
            self._bar.close()

    def _run(self) -> None:
        while True:
            is_last_poll = self._closed.is_set()
            events = self._source.next_events()
            for notice in self._source.notices():
                self._print(notice)
            if events:
                self._log([(int(event["step"]), _logged_metrics(event)) for event in events])
            for event in events:
                self._report_restart(event)
                self.latest |= event
                self._show(event)
            if is_last_poll:
                return
            self._closed.wait(POLL_EVERY_S if self.latest else FIRST_POLL_EVERY_S)

    def _report_restart(self, event: dict[str, float]) -> None:
        """Prints a line when this event shows that the workers were restarted."""
        if "loss" not in event:
            return
        before, step = int(self.latest.get("step", 0)), int(event["step"])
        if step <= before:
            steps = f"step {step}" if step == before else f"steps {step} to {before}"
            consequence = f"the run repeats {steps} with the same rows"
        elif event.get("workers") != self.latest.get("workers", event.get("workers")):
            consequence = f"the run continues with step {step}"
        else:
            return
        self._print(f"the workers started again ({int(event['workers'])} now): {consequence}")
        self._pace_start = None

    def _print(self, text: str) -> None:
        text = f"{PROGRESS_PREFIX}{text}"
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def _show(self, event: dict[str, float]) -> None:
        if not self._stream.isatty():
            self._show_line(event)
            return
        step = int(event["step"])
        if self._bar is None:
            # With `initial`, tqdm's ETA is right for a run that resumes in the middle.
            self._bar = tqdm(
                total=int(event["total_steps"]), initial=step - 1, unit="step", desc="training", file=self._stream
            )
        self._bar.update(step - self._bar.n)
        self._bar.set_postfix_str(_metrics_text(self.latest))

    def _show_line(self, event: dict[str, float]) -> None:
        now = time.monotonic()
        is_last_step = event["step"] >= event["total_steps"]
        if now < self._next_line_at and "eval_loss" not in event and not is_last_step:
            return
        self._next_line_at = now + LINE_EVERY_S
        rest = f"{_metrics_text(self.latest)}  ETA {self._eta_text(event)}"
        print(progress_line(int(event["step"]), int(event["total_steps"]), rest), file=self._stream, flush=True)

    def _eta_text(self, event: dict[str, float]) -> str:
        """The time left as `minutes:seconds`, at the pace since the workers started; `…` before there is a pace."""
        now = time.monotonic()
        if self._pace_start is None:
            self._pace_start = (event["step"], now)
        first_step, first_time = self._pace_start
        steps = event["step"] - first_step
        if steps <= 0:
            return "…"
        seconds = (now - first_time) / steps * (event["total_steps"] - event["step"])
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _metrics_text(metrics: dict[str, float]) -> str:
    formats = {
        "loss": "loss {:.3f}",
        "eval_loss": "held-out {:.3f}",
        "eval_preference_accuracy": "preferred {:.0%}",
        "learning_rate": "lr {:.1e}",
        "grad_norm": "grad {:.2f}",
        "tokens_per_s": "{:.0f} tok/s",
    }
    return "  ".join(text.format(metrics[name]) for name, text in formats.items() if name in metrics)


def _logged_metrics(event: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in event.items() if name not in ("step", "total_steps", "workers")}
