"""A real server that a test starts, stops and starts again, as a process with a log file."""

from __future__ import annotations

import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

START_TIMEOUT_S = 60.0


class ServerProcess(ABC):
    """Context manager of a server on the loopback interface. `folder` is its working folder and holds its log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def start(self) -> None:
        """Starts the server; returns when it answers."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server answers a client."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self, end: signal.Signals = signal.SIGKILL) -> None:
        """Ends the server at once and waits for its end."""
        if self.process is not None:
            self.process.send_signal(end)
            self.process.wait()
            self.process = None

    def run(self, command: Sequence[str], **options: Any) -> None:
        """Starts the command, with options of subprocess.Popen. Fails with the log if it does not answer in time."""
        log = self.folder / "log"
        with log.open("ab") as file:
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=file, stderr=file, **options)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.answers():
            text = log.read_text(errors="replace")
            assert self.process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.05)
