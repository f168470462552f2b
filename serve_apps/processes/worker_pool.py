"""WorkerPool: child processes that run one job, with limits of time and memory, without blocking the event loop."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from tuneyard.core.errors import EngineError, OverloadedError, TuneyardError

START_TIMEOUT_S = 120.0
"""Seconds for a child to import its modules and load its files, on a busy machine."""

WALL_SECONDS_PER_CPU_SECOND = 20.0
"""A child that has not answered after so many times its CPU time is stopped too: it waits for something."""


class WorkerLimitError(TuneyardError):
    """The job exceeded a limit, and its process was ended. `limit` is "time" or "memory"."""

    def __init__(self, message: str, limit: str) -> None:
        super().__init__(message, limit)
        self.limit = limit


class WorkerPool:
    """Up to `size` processes, started when they are first needed, and again after one was stopped.

    `job` is `module:function`: called in the child with `arguments`, it returns the job, which is called with each
    payload. Arguments, payloads and results are pickled. `memory_bytes` is what a child may allocate after its start;
    None sets no limit. More than `max_waiting` waiting calls are refused.
    """

    def __init__(
        self,
        job: str,
        arguments: tuple[Any, ...] = (),
        *,
        size: int = 1,
        memory_bytes: int | None = None,
        max_waiting: int = 256,
    ) -> None:
        children = [_Child(job, arguments, memory_bytes) for _ in range(size)]
        self._idle: queue.SimpleQueue[_Child] = queue.SimpleQueue()
        for child in children:
            self._idle.put(child)
        # A thread waits for each child; waiting does not hold the interpreter lock.
        self._threads = ThreadPoolExecutor(size, thread_name_prefix=f"worker {job.rpartition(':')[2]}")
        self._max_pending = size + max_waiting
        self._pending = 0
        self._close = weakref.finalize(self, _close_all, children, self._threads)

    async def call(self, payload: Any, cpu_s: float) -> Any:
        """The job's result for the payload.

        Raises what the job raises; WorkerLimitError if it takes more than `cpu_s` seconds of CPU time, or more memory
        than allowed; OverloadedError if too many calls wait.
        """
        if self._pending >= self._max_pending:
            raise OverloadedError(
                f"{self._pending} requests already wait to be prepared. Retry after {OverloadedError.retry_after_s} s.",
                code="overloaded",
            )
        if not self._close.alive:
            raise EngineError("The server is shutting down.")
        future = asyncio.get_running_loop().run_in_executor(self._threads, self._call, payload, cpu_s)
        self._pending += 1
        future.add_done_callback(self._count_end)
        return await future

    def close(self) -> None:
        """Ends the children; running calls fail. May be called twice."""
        self._close()

    def _count_end(self, future: asyncio.Future[Any]) -> None:
        self._pending -= 1
        if not future.cancelled():
            future.exception()  # a caller that was cancelled does not read it

    def _call(self, payload: Any, cpu_s: float) -> Any:
        child = self._idle.get()
        try:
            return child.call(payload, cpu_s)
        finally:
            self._idle.put(child)


class _Child:
    """One child process. Used by one thread at a time."""

    def __init__(self, job: str, arguments: tuple[Any, ...], memory_bytes: int | None) -> None:
        self._job = job
        self._start_message = (arguments, memory_bytes)
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Any = None
        self._is_closed = False

    def call(self, payload: Any, cpu_s: float) -> Any:
        if self._process is None or self._process.poll() is not None:
            self._start()
        return self._exchange((payload, cpu_s), cpu_s * WALL_SECONDS_PER_CPU_SECOND, f"{cpu_s:g} s")

    def stop(self) -> int | None:
        """Ends the process. Returns its exit status, None if there was none."""
        process, self._process = self._process, None
        if process is None:
            return None
        # Its own end first: a child that has exited keeps its status.
        if process.poll() is None:
            process.kill()
        self._connection.close()
        return process.wait()

    def close(self) -> None:
        self._is_closed = True
        self.stop()

    def _start(self) -> None:
        if self._is_closed:
            raise WorkerLimitError("The worker is closed.", "time")
        self.stop()
        self._connection, other_end = Pipe()
        with other_end:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(other_end.fileno()), self._job],
                pass_fds=[other_end.fileno()],
                env=os.environ
                | _ENVIRONMENT
                | {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)},
                stdin=subprocess.DEVNULL,
            )
        self._exchange(self._start_message, START_TIMEOUT_S, "its start")

    def _exchange(self, message: Any, timeout_s: float, time: str) -> Any:
        """Sends a message and returns the result of its answer, or raises its exception."""
        try:
            self._connection.send(message)
            if not self._connection.poll(timeout_s):
                self.stop()
                raise WorkerLimitError(f"It took longer than {time}.", "time")
            succeeded, result = self._connection.recv()
        except (EOFError, OSError) as e:
            process = self._process
            if process is not None:
                process.wait(10)
            limit = "time" if self.stop() == -signal.SIGPROF else "memory"
            raise WorkerLimitError(
                f"It took longer than {time}." if limit == "time" else "It ran out of memory.", limit
            ) from e
        if succeeded:
            return result
        if isinstance(result, MemoryError):
            self.stop()
            raise WorkerLimitError("It ran out of memory.", "memory")
        raise result


_PROGRAM = (
    "import sys; from serve_apps.processes.worker_main import run_worker; run_worker(int(sys.argv[1]), sys.argv[2])"
)

_ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
"""A child uses one core and no GPU."""


def _close_all(children: list[_Child], threads: ThreadPoolExecutor) -> None:
    for child in children:
        child.close()
    threads.shutdown(wait=False)
