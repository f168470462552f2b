"""Jobs run in child processes, whose limits of time and memory hold, and which start again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from serve_apps.processes import worker_pool
from serve_apps.processes.worker_pool import WorkerLimitError, WorkerPool
from tuneyard.core.errors import EngineError, OverloadedError, RequestError


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
            case "abort":
                os.abort()
            case "die":
                os._exit(3)
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "refuse":
                raise RequestError("no", param="p", code="c")
        return f"{greeting} {payload}"

    return job


def create_slowly() -> None:
    time.sleep(60)


def fail_to_create() -> None:
    raise FileNotFoundError("tokenizer.json")


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
    for payload, limit in (("spin", "time"), ("grow", "memory"), ("abort", "memory")):
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


@pytest.mark.parametrize(("payload", "status"), [("die", "3"), ("killed", "-9")])
async def test_a_child_that_ends_for_another_reason_is_no_fault_of_its_job(
    pool: WorkerPool, payload: str, status: str
) -> None:
    with pytest.raises(EngineError, match=f"exit status {status}"):
        await pool.call(payload, 5)
    assert await pool.call("world", 5) == "hello world"


async def test_without_a_limit_of_memory_no_job_exceeds_it() -> None:
    pool = WorkerPool(f"{__name__}:create_job", ("hello",))
    with pytest.raises(EngineError, match="exit status -6"):
        await pool.call("abort", 5)
    pool.close()


@pytest.mark.parametrize(
    ("factory", "start_timeout_s", "message"),
    [("create_slowly", 0.1, "did not start within 0.1 s"), ("fail_to_create", 120, "exit status 1 while it started")],
)
async def test_a_child_that_does_not_start_is_no_fault_of_its_job(
    monkeypatch: pytest.MonkeyPatch, factory: str, start_timeout_s: float, message: str
) -> None:
    monkeypatch.setattr(worker_pool, "START_TIMEOUT_S", start_timeout_s)
    pool = WorkerPool(f"{__name__}:{factory}")
    with pytest.raises(EngineError, match=message):
        await pool.call("world", 5)
    pool.close()


async def test_a_call_that_runs_or_waits_while_the_pool_closes_says_so(pool: WorkerPool) -> None:
    await pool.call("pid", 5)
    calls = [asyncio.create_task(pool.call("spin", 20)) for _ in range(2)]
    await asyncio.sleep(0.1)
    pool.close()
    for error in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(error, EngineError)
        assert "shutting down" in str(error)
