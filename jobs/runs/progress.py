"""Events of the workers -> one progress bar (or plain lines) and MLflow metrics, in a driver thread."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from tqdm import tqdm

from tuneyard.core.room_commands import progress_line

POLL_EVERY_S = 2.0
"""Each look costs calls to the head and a write to the registry, on cores that are the workers' on a small machine."""

LogPoints = Callable[[list[tuple[int, dict[str, float]]]], None]
"""Takes points of curves: step, and metrics by name."""

LINE_EVERY_S = 5.0
"""Where no terminal listens, a plain line this often."""


class EventSource(Protocol):
    """Where events come from."""

    def next_events(self) -> list[dict[str, float]]:
        """Those since the last call."""

    def notices(self) -> list[str]:
        """What has happened to the machines since the last call, for people."""


class TrainingProgress:
    """Context manager: shows and logs every event until it is closed; then the last ones. Says so when a run went back
    to its last checkpoint or on with other workers, and what the source notices.

    `last` is the newest value of every metric.
    """

    def __init__(self, source: EventSource, log: LogPoints, stream: TextIO | None = None) -> None:
        self._source = source
        self._log = log
        self._stream = stream or sys.stderr
        self._bar: tqdm[Any] | None = None
        self._line_due = 0.0
        self._first: tuple[float, float] | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="training-progress", daemon=True)
        self.last: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join(timeout=30)
        if self._bar is not None:
            self._bar.close()

    def _run(self) -> None:
        while True:
            closing = self._done.is_set()
            events = self._source.next_events()
            for notice in self._source.notices():
                self._say(notice)
            if events:
                self._log([(int(event["step"]), _metrics_of(event)) for event in events])
            for event in events:
                self._say_when_back(event)
                self.last |= event
                self._show(event)
            if closing:
                return
            self._done.wait(POLL_EVERY_S)

    def _say_when_back(self, event: dict[str, float]) -> None:
        if "loss" not in event:
            return
        before, step = int(self.last.get("step", 0)), int(event["step"])
        if step <= before:
            then = f"from step {step} on the run does again what it had done up to step {before}, with the same rows"
        elif event.get("workers") != self.last.get("workers", event.get("workers")):
            then = f"the run goes on with step {step}"
        else:
            return
        self._say(f"the workers started again ({int(event['workers'])} now): {then}")
        self._first = None

    def _say(self, text: str) -> None:
        text = f"training: {text}"
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
            # `initial` keeps the ETA right when a run resumes in the middle.
            self._bar = tqdm(
                total=int(event["total_steps"]), initial=step - 1, unit="step", desc="training", file=self._stream
            )
        self._bar.update(step - self._bar.n)
        self._bar.set_postfix_str(_metrics_text(self.last))

    def _show_line(self, event: dict[str, float]) -> None:
        now = time.monotonic()
        last_step = event["step"] >= event["total_steps"]
        if now < self._line_due and "eval_loss" not in event and not last_step:
            return
        self._line_due = now + LINE_EVERY_S
        print(
            progress_line(
                int(event["step"]),
                int(event["total_steps"]),
                f"{_metrics_text(self.last)}  ETA {self._eta_text(event)}",
            ),
            file=self._stream,
            flush=True,
        )

    def _eta_text(self, event: dict[str, float]) -> str:
        """Time left at the pace since this process's first event, so that a resumed run's is right too."""
        now = time.monotonic()
        if self._first is None:
            self._first = (event["step"], now)
        first_step, first_time = self._first
        steps = event["step"] - first_step
        if steps <= 0:
            return "…"
        seconds = (now - first_time) / steps * (event["total_steps"] - event["step"])
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _metrics_text(metrics: dict[str, float]) -> str:
    formats = {
        "loss": "loss {:.3f}",
        "eval_loss": "held-out {:.3f}",
        "learning_rate": "lr {:.1e}",
        "grad_norm": "grad {:.2f}",
        "tokens_per_s": "{:.0f} tok/s",
    }
    return "  ".join(text.format(metrics[name]) for name, text in formats.items() if name in metrics)


def _metrics_of(event: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in event.items() if name not in ("step", "total_steps", "workers")}
