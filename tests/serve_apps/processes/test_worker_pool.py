"""Jobs run in child processes, whose limits of time and memory hold, and which start again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from serve_apps.processes.worker_pool import WorkerLimitError, WorkerPool
from tuneyard.core.errors import OverloadedError, RequestError


def create_job(greeting: str) -> Callable[[str], Any]:
    """A job that does what its payload says."""

    def job(payload: str) -> Any:
        match payload:
            case "pid":
                return os.getpid()
            case "spin":
                while True:
                    pass
            case "grow":
                return len(bytearray(2**31))
            case "die":
                os._exit(3)
            case "refuse":
                raise RequestError("no", param="p", code="c")
        return f"{greeting} {payload}"

    return job


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool(f"{__name__}:create_job", ("hello",), memory_bytes=2**28, max_waiting=2)
    yield pool
    pool.close()


async def test_results_and_errors_come_back(pool: WorkerPool) -> None:
    assert await pool.call("world", 5) == "hello world"
    with pytest.raises(RequestError) as caught:
        await pool.call("refuse", 5)
    assert (caught.value.param, caught.value.code) == ("p", "c")


async def test_a_job_beyond_its_limits_is_ended_and_the_next_one_runs(pool: WorkerPool) -> None:
    first = await pool.call("pid", 5)
    assert await pool.call("pid", 5) == first
    for payload, limit in (("spin", "time"), ("grow", "memory"), ("die", "memory")):
        with pytest.raises(WorkerLimitError) as caught:
            await pool.call(payload, 0.2)
        assert caught.value.limit == limit
        assert await pool.call("world", 5) == "hello world"
    assert await pool.call("pid", 5) != first


async def test_the_event_loop_runs_meanwhile_and_too_many_calls_are_refused(pool: WorkerPool) -> None:
    await pool.call("pid", 5)
    spinning = [asyncio.create_task(pool.call("spin", 0.2)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="3 requests already wait"):
        await pool.call("world", 5)
    assert all(isinstance(e, WorkerLimitError) for e in await asyncio.gather(*spinning, return_exceptions=True))
    assert await pool.call("world", 5) == "hello world"


async def test_a_closed_pool_ends_its_child(pool: WorkerPool) -> None:
    pid = await pool.call("pid", 5)
    pool.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
