"""Starts the fork server, and ends it together with its forks."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from jobs.rehearsal.worker_processes import fork_client, fork_server
from tuneyard.core.errors import TrainingError

LOG, LINES_SHOWN = "fork_server.log", 12


class ForkServer:
    """A fork server that imports `modules`, as a context manager. Forks that still run at the end are killed.

    `folder` gets its socket and its log. The server has this process's environment and imports the modules while this
    process goes on; wait_until_ready waits for that.
    """

    def __init__(self, folder: Path, modules: list[str]) -> None:
        self._folder = folder
        self._modules = modules

    @property
    def worker_python(self) -> str:
        """The shell command that takes the place of `python` in a worker's command."""
        command = [sys.executable, "-I", "-S", fork_client.__file__, str(self._folder)]
        return shlex.join(command)

    def wait_until_ready(self) -> None:
        """Returns when the modules are imported. Raises TrainingError, with the end of the log, if one cannot be."""
        assert self._process.stdout is not None
        if self._process.stdout.read() == fork_server.READY:
            return
        lines = (self._folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
        raise TrainingError(
            f"A worker could not import {' and '.join(self._modules)}:\n" + "\n".join(lines[-LINES_SHOWN:])
        )

    def __enter__(self) -> Self:
        self._folder.mkdir(mode=0o700)
        with (self._folder / LOG).open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", fork_server.__name__, str(self._folder), *self._modules],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl-C reaches it through this process
            )
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
