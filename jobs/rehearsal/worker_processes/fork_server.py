"""The process that imports modules once, and forks itself for each worker that Ray starts.

usage: python -m jobs.rehearsal.worker_processes.fork_server FOLDER MODULE [MODULE ...]

Writes READY to standard output when the modules are imported. It ends with the process that started it, and its forks
end with it. No module may start threads or import Ray, whose settings a process reads from its environment once.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from jobs.rehearsal.worker_processes.fork_client import SOCKET

READY = "ready"

PR_SET_PDEATHSIG = 1
"""See prctl(2)."""


@dataclass(frozen=True, slots=True)
class ForkRequest:
    """A script with its arguments, and the environment, directory and standard streams with which it runs."""

    arguments: list[str]
    environment: dict[str, str]
    directory: str
    streams: list[int]
    connection: socket.socket
    """Stays open until the fork ends: the client waits for that."""


def serve(folder: str, modules: list[str]) -> None:
    """Imports the modules, then forks for each request. Returns only in a fork, when its script has ended."""
    _end_with_parent()
    answers = os.dup(1)
    os.dup2(2, 1)  # what the modules print
    for module in modules:
        importlib.import_module(module)
    # Otherwise each fork's garbage collection writes to the shared memory, which copies it.
    gc.collect()
    gc.freeze()
    # Ended forks disappear at once: to Ray, one that is not reaped would still run.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # The name of a Unix socket has 107 bytes at most, and the folder's may be longer.
    os.chdir(folder)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(SOCKET)
        listener.listen()
        os.write(answers, READY.encode())
        os.close(answers)
        request = _accept_until_forked(listener)
    _run(request)


def _accept_until_forked(listener: socket.socket) -> ForkRequest:
    """Forks for each request. Returns in the fork, with its request."""
    while True:
        connection, _ = listener.accept()
        streams: list[int] = []
        try:
            _, streams, _, _ = socket.recv_fds(connection, 1, 3)
            with connection.makefile("rb") as file:
                request = ForkRequest(**json.loads(file.read()), streams=streams, connection=connection)
            if os.fork() == 0:
                return request
        except (OSError, ValueError) as e:  # a client that was killed in the middle of its request
            print(f"No fork: {e}", file=sys.stderr, flush=True)
        connection.close()
        for stream in streams:
            os.close(stream)


def _run(request: ForkRequest) -> None:
    """Runs the script in this process as Python would."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _end_with_parent()
    os.setpgid(0, 0)  # Ray kills the process group of a worker
    for number, stream in enumerate(request.streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(request.environment)
    os.chdir(request.directory)
    sys.argv = request.arguments
    sys.path[0] = str(Path(request.arguments[0]).parent)
    runpy.run_path(request.arguments[0], run_name="__main__")


def _end_with_parent() -> None:
    """Lets the kernel kill this process when the thread that started it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    if sys.argv[1:] == ["--help"]:
        print("usage: " + (__doc__ or "").partition("usage: ")[2])
    else:
        serve(sys.argv[1], sys.argv[2:])
