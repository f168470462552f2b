"""The demo's child processes: started, awaited and ended in order."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

from tuneyard.cluster.connection import CHECKOUT
from tuneyard.core.errors import TuneyardError
from tuneyard.core.home import tuneyard_home

START_TIMEOUT_S = 300.0
END_TIMEOUT_S = 60.0


class DemoError(TuneyardError):
    """A step of the demo failed."""


class DemoProcesses:
    """Context manager that starts `python` processes in the checkout. At its end it ends them, the newest first."""

    def __init__(self) -> None:
        self._background = contextlib.ExitStack()
        self._environment = os.environ | {
            "TUNEYARD_HOME": str(tuneyard_home()),
            "PYTHONPATH": os.pathsep.join([str(CHECKOUT / "platform"), str(CHECKOUT)]),
        }

    def __enter__(self) -> DemoProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        self._background.close()

    def run(self, *arguments: str) -> None:
        """Runs `python ARGUMENTS` until it ends. Raises DemoError when its exit code is not 0."""
        with self._running(arguments) as process:
            code = process.wait()
        if code != 0:
            raise DemoError(f"`python {' '.join(arguments)}` ended with exit code {code}; see its message above.")

    def start(self, *arguments: str, stdout: int | None = None) -> subprocess.Popen[bytes]:
        """Starts `python ARGUMENTS` in the background. `stdout` as in subprocess.Popen."""
        return self._background.enter_context(self._running(arguments, stdout))

    @contextlib.contextmanager
    def _running(self, arguments: tuple[str, ...], stdout: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
        # In a session of its own, so that Ctrl-C reaches the demo only, which ends its children in order.
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=CHECKOUT, env=self._environment, stdout=stdout, start_new_session=True
        )
        try:
            yield process
        finally:
            _end(process)


def wait_until_answering(url: str, server: subprocess.Popen[bytes]) -> None:
    """Returns when a GET of the URL succeeds. Raises DemoError when the server ends or START_TIMEOUT_S have passed."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise DemoError(f"The server of {url} ended with exit code {server.returncode}; see its message above.")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.3)
    raise DemoError(f"{url} does not answer after {START_TIMEOUT_S:.0f} s. See the server's messages above.")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process with SIGINT, as a user would. Kills its process group if that takes longer than END_TIMEOUT_S."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
