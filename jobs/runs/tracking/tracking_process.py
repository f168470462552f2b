"""TrackingProcess: the driver's end of a tracking process. A service that is slow or lost never holds a run up."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from jobs.runs.tracking.messages import EndMessage, Notice, PointMessage, StartMessage
from jobs.runs.tracking.wandb_process import FINISH_TIMEOUT_S

logger = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "jobs.runs.tracking.wandb_process")

MAX_WAITING_POINTS = 10_000
"""Points that wait while the service opens the run. Further ones are not sent."""

GRACE_S = 2.0
"""Seconds that the process has to end itself after its own limit."""

PASSED_VARIABLES = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "VIRTUAL_ENV")
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")


class TrackingProcess:
    """A run at a tracking service, in a process of its own with no secret but that service's.

    `note` is called, in a thread, with every notice: that the run is open, and at most one warning. No method raises
    for the service's sake; only `end` waits, and for no more than `finish_timeout_s` and GRACE_S seconds.
    """

    def __init__(
        self,
        start: StartMessage,
        note: Callable[[Notice], None],
        command: Sequence[str] = COMMAND,
        finish_timeout_s: float = FINISH_TIMEOUT_S,
    ) -> None:
        self._note = note
        self._timeout_s = finish_timeout_s
        self._has_warned = False
        self._lines: queue.Queue[str | None] = queue.Queue(MAX_WAITING_POINTS)
        self._lines.put(start.as_line())
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env=process_environment(os.environ),
            start_new_session=True,
        )
        self._writer = threading.Thread(target=self._write, name="tracking-writer", daemon=True)
        self._reader = threading.Thread(target=self._read, name="tracking-reader", daemon=True)
        self._writer.start()
        self._reader.start()

    def log_points(self, points: Sequence[tuple[int, dict[str, float]]]) -> None:
        """Sends points (step, metrics by name). Returns at once."""
        for step, metrics in points:
            try:
                self._lines.put_nowait(PointMessage(step=step, metrics=metrics).as_line())
            except queue.Full:
                self._warn(f"it takes no metrics; {MAX_WAITING_POINTS} points wait, and further ones are not sent")

    def end(self, summary: Mapping[str, str | float], *, succeeded: bool) -> None:
        """Sends the end of the run, and waits until the service has everything or the time is over."""
        deadline = time.monotonic() + self._timeout_s + GRACE_S
        for line in (EndMessage(succeeded=succeeded, summary=dict(summary)).as_line(), None):
            # A process that has ended takes nothing from a full queue.
            left_s = deadline - time.monotonic() if self._process.poll() is None else 0.0
            with contextlib.suppress(queue.Full):
                self._lines.put(line, timeout=max(0.0, left_s))
        try:
            self._process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._warn(f"it did not take everything in {self._timeout_s:g} s")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._reader.join(timeout=GRACE_S)

    def _write(self) -> None:
        assert self._process.stdin is not None
        # A process that has ended takes no more lines: its notice, or its exit code, says why.
        with contextlib.suppress(BrokenPipeError), self._process.stdin as stdin:
            while (line := self._lines.get()) is not None:
                stdin.write(line)
                stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            for line in stdout:
                notice = Notice.model_validate_json(line)
                if notice.kind == "warning":
                    self._warn(notice.text)
                else:
                    self._tell(notice)
        if code := self._process.wait():
            self._warn(f"its process ended with exit code {code}")

    def _warn(self, text: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            self._tell(Notice(kind="warning", text=text))

    def _tell(self, notice: Notice) -> None:
        try:
            self._note(notice)
        except Exception as e:  # noqa: BLE001 - a lost registry fails the run where the run itself needs it
            logger.warning("%r of the tracking process is not noted: %s", notice.text, e)


def process_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of the tracking process: those of Weights & Biases and of the network, and this process' modules.

    Of the driver's other secrets it has none. The package's own reports of errors, which hold stack traces, are off.
    """
    proxies = {*PROXY_VARIABLES, *(name.lower() for name in PROXY_VARIABLES)}
    passed = {
        name: value
        for name, value in environment.items()
        if name in PASSED_VARIABLES or name in proxies or name.startswith("WANDB_")
    }
    return passed | {"PYTHONPATH": os.pathsep.join(sys.path), "WANDB_ERROR_REPORTING": "false"}
