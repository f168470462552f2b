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
        than allowed; OverloadedError if too many calls wait; EngineError if the child does not start or ends for
        another reason (the system was short of memory, say), or if the pool is closed.
        """
        if self._pending >= self._max_pending:
            raise OverloadedError(
                f"{self._pending} requests already wait to be prepared. Retry after {OverloadedError.retry_after_s} s.",
                code="overloaded",
            )
        if not self._close.alive:
            raise EngineError(_CLOSED)
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
        self._has_memory_limit = memory_bytes is not None
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Any = None
        self._is_closed = False

    def call(self, payload: Any, cpu_s: float) -> Any:
        if self._process is None or self._process.poll() is not None:
            self._start()
        try:
            return self._exchange((payload, cpu_s), cpu_s * WALL_SECONDS_PER_CPU_SECOND)
        except _NoAnswerError as e:
            raise WorkerLimitError(f"It took longer than {cpu_s:g} s.", "time") from e
        except _ChildEndedError as e:
            if e.status == -signal.SIGPROF:
                raise WorkerLimitError(f"It took longer than {cpu_s:g} s.", "time") from e
            if self._has_memory_limit and e.status in _OUT_OF_MEMORY_STATUSES:
                raise WorkerLimitError("It ran out of memory.", "memory") from e
            raise self._failure(f"A worker process ended with exit status {e.status}. Retry the request.") from e

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
            raise EngineError(_CLOSED)
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
        try:
            self._exchange(self._start_message, START_TIMEOUT_S)
        except _NoAnswerError as e:
            raise self._failure(
                f"A worker process did not start within {START_TIMEOUT_S:g} s. Retry the request."
            ) from e
        except _ChildEndedError as e:
            raise self._failure(
                f"A worker process ended with exit status {e.status} while it started; the server's log has its error."
            ) from e

    def _failure(self, message: str) -> EngineError:
        """The error of a child that ended through no fault of its job."""
        return EngineError(_CLOSED if self._is_closed else message)

    def _exchange(self, message: Any, timeout_s: float) -> Any:
        """Sends a message and returns the result of its answer, or raises its exception.

        Raises _NoAnswerError without an answer in time, and _ChildEndedError if the child ends; both stop the child.
        """
        try:
            self._connection.send(message)
            if not self._connection.poll(timeout_s):
                self.stop()
                raise _NoAnswerError
            succeeded, result = self._connection.recv()
        except (EOFError, OSError) as e:
            process = self._process
            if process is not None:
                process.wait(10)
            raise _ChildEndedError(self.stop()) from e
        if succeeded:
            return result
        if isinstance(result, MemoryError):
            self.stop()
            raise WorkerLimitError("It ran out of memory.", "memory")
        raise result


class _NoAnswerError(Exception):
    """The child did not answer in time, and was stopped."""


class _ChildEndedError(Exception):
    """The child ended. `status` is its exit status; None if it had been stopped from this side."""

    def __init__(self, status: int | None) -> None:
        super().__init__(status)
        self.status = status


_CLOSED = "The server is shutting down."

_OUT_OF_MEMORY_STATUSES = (-signal.SIGABRT, -signal.SIGSEGV)
"""How native code ends when its limit of memory refuses an allocation. SIGKILL is not one: the system sends it."""

_PROGRAM = (
    "import sys; from serve_apps.processes.worker_main import run_worker; run_worker(int(sys.argv[1]), sys.argv[2])"
)

_ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
"""A child uses one core and no GPU."""


def _close_all(children: list[_Child], threads: ThreadPoolExecutor) -> None:
    for child in children:
        child.close()
    threads.shutdown(wait=False)
