"""PageServer: `python -m ui` in a process of its own, for tests and benchmarks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx

ROOT = Path(__file__).parents[2]
START_S = 120
"""Longest wait for a page to answer: its imports take seconds, and more where other tests run."""


@dataclass
class PageServer:
    """A page on a port that stays the same over restarts. In async code call its methods in a thread."""

    options: tuple[str, ...]
    python_options: tuple[str, ...] = ()
    stderr: IO[str] | None = None
    """Where the process's messages go; None: to those of the tests."""
    port: int = field(default_factory=lambda: free_port())
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Starts it and waits until it answers."""
        command = [sys.executable, *self.python_options, "-m", "ui", "--port", str(self.port), *self.options]
        environ = os.environ | {"PYTHONPATH": "platform:.", "PYTHONWARNINGS": "ignore"}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=self.stderr, text=True
        )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.is_running:
            try:
                # The socket is open before the imports, so the first request waits for them.
                httpx.get(f"{self.url}/favicon.ico", timeout=START_S)
            except httpx.HTTPError:
                time.sleep(0.05)
            else:
                return
        self.stop()
        raise TimeoutError(f"the page's server does not answer at {self.url}")

    def stop(self) -> None:
        """Ends it; does nothing if it has ended."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise

    def restart(self) -> None:
        """Ends it and starts it anew."""
        self.stop()
        self.start()


def free_port() -> int:
    """A port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
