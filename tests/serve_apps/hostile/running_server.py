"""Server: a running server_program, whose answers are checked and whose event loop is watched."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

ADMIN_KEY = "administrator"

MOST_PAUSE_S = 0.25
"""CPU time between two turns of the event loop that no request may exceed."""

HEADERS = {"Content-Type": "application/json", "Authorization": f"Bearer {ADMIN_KEY}"}


@dataclass(frozen=True)
class Server:
    """A running tests.serve_apps.hostile.server_program."""

    root: str
    process: psutil.Process
    client: httpx.Client

    def pause_s(self, kind: str = "cpu_pause_s") -> float:
        """The longest pause of its event loop since the call before; `kind` is an attribute of LoopWatchdog."""
        pause_s: float = self.client.get("/-/watchdog").json()[kind]
        return pause_s

    def memory_bytes(self) -> int:
        """Resident memory of the server and its worker processes."""
        return sum(process.memory_info().rss for process in (self.process, *self.process.children(recursive=True)))

    def send(self, path: str, data: bytes) -> httpx.Response:
        """The answer, which was checked, and did not hold the event loop."""
        return self.check(self.client.post(path, content=data, headers=HEADERS))

    def check(self, answer: httpx.Response) -> httpx.Response:
        what = (answer.request.method, answer.request.url.path, answer.status_code)
        assert answer.status_code < 500, (*what, answer.text[:500])
        if answer.status_code >= 400:
            assert answer.json()["error"]["message"], what
        pause_s = self.pause_s()
        assert pause_s < MOST_PAUSE_S, (*what, pause_s)
        return answer


@contextlib.contextmanager
def running_server(checkpoint: Path, folder: Path) -> Iterator[Server]:
    """A server of the checkpoint's API, with its database in `folder`."""
    program = "tests.serve_apps.hostile.server_program"
    command = [sys.executable, "-W", "ignore", "-m", program, str(checkpoint), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        root = process.stdout.readline().strip()
        assert root, "the server did not start"
        try:
            with httpx.Client(base_url=root, timeout=120) as client:
                server = Server(root, psutil.Process(process.pid), client)
                server.pause_s()  # that of the start
                yield server
        finally:
            process.terminate()
