"""The program of a worker process, which a WorkerPool starts.

It reads requests from the connection, one at a time, and ends when the other side closes it.
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


def run_worker(descriptor: int, job_path: str) -> None:
    """Receives the arguments of the job's factory and the memory limit; then answers requests, each `(payload, cpu_s)`.

    `descriptor` is that of the connection, `job_path` the factory's `module:function`. Every answer is `(True, result)`
    or `(False, exception)`.
    """
    connection = Connection(descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches all its processes
    try:
        arguments, memory_bytes = connection.recv()
        job = _load(job_path)(*arguments)
        if memory_bytes is not None:
            _limit_memory(memory_bytes)
        connection.send((True, None))
        while True:
            payload, cpu_s = connection.recv()
            # At the end of the time the signal ends this process, whatever it is doing.
            signal.setitimer(signal.ITIMER_PROF, cpu_s)
            answer = _answer(job, payload)
            signal.setitimer(signal.ITIMER_PROF, 0)
            connection.send(answer)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except MemoryError:
        os.abort()  # a request or an answer beyond the limit ends this process as native code's allocations do


def _load(path: str) -> Callable[..., Callable[[Any], Any]]:
    """The function at `module:name`; called with the arguments, it returns the job."""
    module, _, name = path.partition(":")
    factory: Callable[..., Callable[[Any], Any]] = getattr(importlib.import_module(module), name)
    return factory


def _answer(job: Callable[[Any], Any], payload: Any) -> tuple[bool, Any]:
    try:
        return True, job(payload)
    except Exception as e:  # noqa: BLE001  # sent to the caller, who raises it
        return False, e


def _limit_memory(more_bytes: int) -> None:
    """Allows so much memory beyond what the process has now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + more_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
