"""A real PostgreSQL server on the loopback interface, of Debian's package `postgresql`."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType

import psutil
import psycopg
import pytest

from tests.server_process import ServerProcess
from tuneyard.core.ports import free_port

ORPHANS_END_S = 5.0

USER, PASSWORD = "tuneyard", "not-a-secret"
_NAMES = (f"test_{number}" for number in itertools.count())


def _binaries() -> Path:
    """The folder of the newest server. Skips the test if there is none, except in CI, where .ci/run installs it."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parent.parent.name))
    if not found:
        assert "CI" not in os.environ, ".ci/run must install Debian's package postgresql"
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    return found[-1].parent


class PostgresqlServer(ServerProcess):
    """A server whose data is in a temporary folder inside `folder`. It asks for passwords."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.password_file = folder / "password"
        self.password_file.write_text(PASSWORD + "\n")
        self._bin = _binaries()
        # The server refuses to run as root. The folders of pytest can be read by their owner only.
        self._user = "postgres" if os.geteuid() == 0 else None
        own = folder / "cluster" if self._user is None else Path(f"/tmp/tuneyard-postgresql-{os.getpid()}-{self.port}")
        super().__init__(own)
        own.mkdir(mode=0o700)
        own_password = shutil.copy(self.password_file, self.folder / "password")
        if self._user is not None:
            for path in (self.folder, own_password):
                shutil.chown(path, self._user)
        command = [
            self._bin / "initdb",
            "-D",
            self._data,
            "-U",
            USER,
            "-A",
            "scram-sha-256",
            "-N",
            "--pwfile",
            own_password,
        ]
        subprocess.run(command, check=True, capture_output=True, user=self._user, cwd=self.folder)

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def url(self, database: str = "postgres") -> str:
        """The URL of a database."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def create_database(self) -> str:
        """The URL of a new, empty database."""
        name = next(_NAMES)
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, statement: str) -> None:
        """Runs a statement as the server's superuser."""
        with self._connect() as connection:
            connection.execute(statement.encode())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._user is not None:
            shutil.rmtree(self.folder)

    def start(self) -> None:
        """Starts the server, with the data of an earlier start; returns when it answers."""
        # fsync off: the data need not survive a crash of the machine.
        command = [str(self._bin / "postgres"), "-D", str(self._data), "-p", str(self.port), "-h", "127.0.0.1"]
        command += ["-k", str(self.folder), "-F", "-c", "shared_buffers=16MB", "-c", "max_connections=40"]
        self.run(command, user=self._user)

    def answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, end: signal.Signals = signal.SIGQUIT) -> None:
        """Ends the server at once, also if it is paused, and waits for the end of all its processes."""
        children: list[psutil.Process] = []
        if self.process is not None:
            self.resume()
            children = psutil.Process(self.process.pid).children()
        super().stop(end)
        # After SIGKILL they notice by themselves that the main process has ended. Another one cannot start before.
        _, left = psutil.wait_procs(children, timeout=ORPHANS_END_S)
        for child in left:
            child.kill()
        psutil.wait_procs(left)

    def pause(self) -> None:
        """Stops all processes of the server: connections stay open and are not answered."""
        for pid in self._pids():
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Continues the processes after `pause`."""
        for pid in self._pids():
            os.kill(pid, signal.SIGCONT)

    def _pids(self) -> list[int]:
        assert self.process is not None
        main = self.process.pid
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        return [main, *map(int, children)]

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.url(), password=PASSWORD, autocommit=True, connect_timeout=5)
