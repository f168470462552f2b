"""StepDisplay: writes the lines of a rehearsal; on a terminal the last line is the running step, with its time."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self, TextIO

from jobs.rehearsal.report import NAME_WIDTH, StepResult

REFRESH_EVERY_S = 1.0

CLEAR_LINE = "\r\x1b[2K"


class StepDisplay:
    """Context manager. Where the stream is no terminal, only the lines are written: a running step writes nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._lock = threading.Lock()
        self._running: tuple[str, float] | None = None
        """Name and start of the running step."""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._refresh, name="rehearsal-display", daemon=True)

    def begin(self, name: str) -> None:
        """Shows the step as the running one."""
        with self._lock:
            self._running = (name, time.monotonic())
            self._show_running()

    def show(self, result: StepResult) -> None:
        """Writes the step's result. The step runs no longer."""
        with self._lock:
            self._running = None
        self.write(result)

    def write(self, line: object) -> None:
        """Writes a line above the running step."""
        with self._lock:
            if self._is_terminal:
                self._stream.write(CLEAR_LINE)
            print(line, file=self._stream, flush=True)
            self._show_running()

    def __enter__(self) -> Self:
        if self._is_terminal:
            self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self._is_terminal:
            self._closed.set()
            self._thread.join()
            self._stream.write(CLEAR_LINE)
            self._stream.flush()

    def _refresh(self) -> None:
        while not self._closed.wait(REFRESH_EVERY_S):
            with self._lock:
                self._show_running()

    def _show_running(self) -> None:
        if not self._is_terminal or self._running is None:
            return
        name, started = self._running
        self._stream.write(f"{CLEAR_LINE}  … {name:<{NAME_WIDTH}} {time.monotonic() - started:6.0f} s")
        self._stream.flush()
