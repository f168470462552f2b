"""A real PostgreSQL server on the loopback interface, of Debian's package `postgresql`."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
import pytest

from tuneyard.core.ports import free_port

USER, PASSWORD = "tuneyard", "not-a-secret"
_NAMES = (f"test_{number}" for number in itertools.count())


def _binaries() -> Path:
    """The folder of the newest server. Skips the test if there is none, except in CI, where .ci/run installs it."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parent.parent.name))
    if not found:
        assert "CI" not in os.environ, ".ci/run must install Debian's package postgresql"
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    return found[-1].parent


class PostgresqlServer:
    """Context manager of a server whose data is in a temporary folder inside `folder`. It asks for passwords."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.password_file = folder / "password"
        self.password_file.write_text(PASSWORD + "\n")
        self._bin = _binaries()
        self._folder = folder / "cluster"
        self._process: subprocess.Popen[bytes] | None = None
        # The server refuses to run as root. The folders of pytest can be read by their owner only.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user is not None:
            self._folder = Path(f"/tmp/tuneyard-postgresql-{os.getpid()}-{self.port}")
        self._folder.mkdir(mode=0o700)
        own_password = shutil.copy(self.password_file, self._folder / "password")
        if self._user is not None:
            for path in (self._folder, own_password):
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
        subprocess.run(command, check=True, capture_output=True, user=self._user, cwd=self._folder)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

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

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._user is not None:
            shutil.rmtree(self._folder)

    def start(self) -> None:
        """Starts the server, with the data of an earlier start; returns when it answers."""
        # fsync off: the data need not survive a crash of the machine.
        command = [str(self._bin / "postgres"), "-D", str(self._data), "-p", str(self.port), "-h", "127.0.0.1"]
        command += ["-k", str(self._folder), "-F", "-c", "shared_buffers=16MB", "-c", "max_connections=40"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, user=self._user, cwd=self._folder)
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                self._connect().close()
                return
            text = (self._folder / "log").read_text(errors="replace")
            assert self._process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.05)

    def stop(self) -> None:
        """Ends the server at once, also if it is paused, and waits for its end."""
        if self._process is not None:
            self.resume()
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stops all processes of the server: connections stay open and are not answered."""
        for pid in self._pids():
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Continues the processes after `pause`."""
        for pid in self._pids():
            os.kill(pid, signal.SIGCONT)

    def _pids(self) -> list[int]:
        assert self._process is not None
        main = self._process.pid
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        return [main, *map(int, children)]

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.url(), password=PASSWORD, autocommit=True, connect_timeout=5)
